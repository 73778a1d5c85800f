"""Launch settings of an array and of its servers."""
