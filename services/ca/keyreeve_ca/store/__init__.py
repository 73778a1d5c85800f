"""The CA's slow-changing state: the port to it, its tables and its schema."""
