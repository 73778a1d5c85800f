"""The audit of a service: one record for each call, in chains that cannot be rewritten unseen (docs/audit.md)."""
