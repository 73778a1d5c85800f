"""Settings of arrays and servers."""
