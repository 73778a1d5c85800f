"""Listeners of plain HTTP, bounded like those of gRPC."""
