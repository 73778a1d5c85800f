"""A service's SQL database: engines, the lock on an embedded one, transactions, and migrations.

On PostgreSQL every process has its own connections. On SQLite one process, the coordinator, locks the file and owns the only
connection that writes or checkpoints; the others open it read-only (docs/adr/0003-one-writer-on-sqlite.md).
"""
