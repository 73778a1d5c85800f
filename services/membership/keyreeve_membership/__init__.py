"""The membership service: which servers belong to which array, and how an array's CA changes."""
