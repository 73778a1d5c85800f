"""Rotations: changes of the CA of an array, which count who is ready."""
