"""`mmp`: the command line of the meeting server."""
