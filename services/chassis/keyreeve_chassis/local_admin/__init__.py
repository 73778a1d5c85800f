"""The local admin socket: commands for root and the service's own user, and findings."""
