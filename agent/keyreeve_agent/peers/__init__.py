"""The peer port: which certificates it accepts, what it answers, and how other members are dialed."""
