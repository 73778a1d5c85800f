"""The ledger of certificates on SQLite and PostgreSQL: serial blocks, commit groups and the commit gate."""
