"""A new key when a server of an array has restarted: the legacy setting `security-newkeyonrestart`."""
