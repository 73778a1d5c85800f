"""`tarantella status`: the state of the array."""
