"""Who may read and manage entries: policies, limits, and the check that each call passes."""
