"""The CA fixtures of these tests, from support/running_ca.py."""

from support.running_ca import ca, own_ca, postgresql_ca, sqlite_ca

__all__ = ["ca", "own_ca", "postgresql_ca", "sqlite_ca"]
