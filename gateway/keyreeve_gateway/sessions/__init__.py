"""Sessions of operators at this gateway: whatever it does, it does with one of their tickets."""
