"""Enrollment by one-time token: the tokens, the proof on both sides, and the enrollment listener."""
