"""What every call passes on its way to a handler: identity, access rules, limits, deadline, errors."""
