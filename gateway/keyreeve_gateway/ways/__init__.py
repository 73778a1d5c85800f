"""The ways in: how a command line arrives, and where its output goes."""
