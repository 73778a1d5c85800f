"""A service's settings: how they are read, and the sections that services share."""
