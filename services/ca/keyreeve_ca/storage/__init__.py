"""The CA's tables and what implements the ports on them: the ledger and the registry, on SQLite and PostgreSQL."""
