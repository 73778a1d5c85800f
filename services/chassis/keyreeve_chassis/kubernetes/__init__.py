"""The Kubernetes API, for what a service keeps or reads there."""
