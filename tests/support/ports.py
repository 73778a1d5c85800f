"""Ports for servers of tests that have to know theirs before they listen."""

import socket


def free_port() -> int:
    """Return a port of the loopback address that nothing listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
