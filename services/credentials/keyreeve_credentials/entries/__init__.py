"""Entries of the vault: who logs in where, as whom, with which secret."""
