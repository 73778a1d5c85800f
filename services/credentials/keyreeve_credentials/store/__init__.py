"""The service's schema and its transaction, which holds the records of all features."""
