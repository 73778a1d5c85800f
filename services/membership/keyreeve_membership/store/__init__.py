"""The service's tables and transactions."""
