"""The CA's slow-changing state: its port, tables and schema."""
