"""Operators of the control plane: invited, given another role, removed."""
