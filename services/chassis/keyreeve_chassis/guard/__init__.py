"""What every call passes before its handler: identity, access rules, limits, deadline, errors."""
