"""What the membership service orders for arrays: the order of its changes, and its members' records."""
