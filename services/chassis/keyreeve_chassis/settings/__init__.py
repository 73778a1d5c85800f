"""A service's settings: loading, and shared sections."""
