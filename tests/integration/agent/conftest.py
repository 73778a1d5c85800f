"""Ports that are free now."""

import socket

import pytest


@pytest.fixture
def unused_ports() -> list[int]:
    """Three ports of the addresses 127.0.0.11 to 127.0.0.13."""
    sockets = [socket.socket() for _ in range(3)]
    for n, one in enumerate(sockets):
        one.bind((f"127.0.0.{11 + n}", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
