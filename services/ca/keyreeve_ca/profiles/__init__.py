"""Profiles: versioned documents that decide what a certificate holds."""
