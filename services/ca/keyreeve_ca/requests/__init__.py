"""Certificate requests as they arrive: reading them strictly, their names, their keys, what they ask for. No I/O."""
