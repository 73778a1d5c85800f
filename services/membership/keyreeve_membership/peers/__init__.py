"""Checks of members' peer ports."""
