"""Enrollment with a one-time token: tokens, mutual proof and the enrollment listener."""
