"""Rows of the standard set that are more than one `keyreeve bench sign`; each makes control planes of its own."""
