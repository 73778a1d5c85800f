"""Which credential a launch uses, and why."""
