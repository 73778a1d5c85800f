"""Long-running operations: their records, and the RPCs that show and cancel them."""
