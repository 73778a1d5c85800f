"""Sockets: each connection's transport, and how connections are spread over processes."""
