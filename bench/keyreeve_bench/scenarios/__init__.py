"""Scenarios that are more than one `keyreeve bench sign`; each starts its own control planes."""
