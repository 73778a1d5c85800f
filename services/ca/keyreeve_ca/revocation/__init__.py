"""Revocation: single and bulk, and CRLs."""
