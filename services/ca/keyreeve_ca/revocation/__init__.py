"""Revocation: of one certificate and of many, CRLs, and what each process knows of it."""
