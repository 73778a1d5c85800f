"""Checks of an installation in Kubernetes, which run in pods of the chart."""
