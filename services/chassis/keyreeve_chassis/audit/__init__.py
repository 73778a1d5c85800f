"""The audit log of a service: one record per call, in tamper-evident hash chains (docs/audit.md)."""
