"""Certificates: encode a plan, check it with code that is independent of the encoder, lint it."""
