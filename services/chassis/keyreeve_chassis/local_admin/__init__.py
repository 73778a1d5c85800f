"""The local admin socket of a service: what root and the service's own user may ask for, and what they can look at."""
