"""`keyreeve vault`: the credentials service."""
