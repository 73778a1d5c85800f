"""Enrollment of services in Kubernetes: a pod's ServiceAccount token is worth an enrollment token."""
