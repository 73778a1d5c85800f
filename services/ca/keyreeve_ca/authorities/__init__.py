"""Certificate authorities: created, activated, retired, revoked; the first start and recovery."""
