"""Key-encryption keys, and what is encrypted under them (docs/vault.md)."""
