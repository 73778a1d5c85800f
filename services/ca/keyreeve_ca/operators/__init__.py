"""Operators of the control plane: invite, change role, remove."""
