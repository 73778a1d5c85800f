"""Where the root key and the key-encryption keys lie outside SQL."""
