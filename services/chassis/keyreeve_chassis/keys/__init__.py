"""Private keys: the key store port, and keys sealed under a key-encryption key in a file."""
