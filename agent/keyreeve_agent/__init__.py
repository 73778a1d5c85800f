"""The agent on each member of an array: its keys, its peer certificate, its peer port, and its local programs."""
