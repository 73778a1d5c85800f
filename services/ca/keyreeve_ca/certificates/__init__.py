"""Building certificates: encode what was decided, check it by rules that share no code with the encoder, lint it."""
