"""Commands for arrays of servers."""
