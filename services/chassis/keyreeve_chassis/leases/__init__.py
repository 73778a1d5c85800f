"""Leases with fences: one process at a time leads, and one that has lost its lease commits nothing more."""
