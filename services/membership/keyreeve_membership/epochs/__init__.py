"""The trust bundles of arrays, as epochs that only grow."""
