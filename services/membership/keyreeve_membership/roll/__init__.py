"""Arrays and members: the roll."""
