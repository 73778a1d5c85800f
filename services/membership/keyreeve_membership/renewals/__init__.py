"""When peer certificates are renewed, and how many at a time."""
