"""Certificate authorities: life cycle, first start and recovery."""
