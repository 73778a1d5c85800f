"""Revocation: of one certificate and of many, CRLs, and the feed to the other services."""
