"""Certificate requests: strict parsing, names, keys, requested extensions. No I/O."""
