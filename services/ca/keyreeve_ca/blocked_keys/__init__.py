"""Blocked keys: keys that no certificate is issued for."""
