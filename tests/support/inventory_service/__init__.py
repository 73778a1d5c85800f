"""A second service, as small as one can be: it shows that the chassis holds everything that a further one needs."""
