"""Names and addresses of synthetic members."""

ARRAY = "bench"
RELEASE = "1.0"
_PORT = 25_427
_HOSTS = 250
"""Loopback addresses in 127.1.N."""


def name_of(number: int) -> str:
    """The peer DNS name of a member."""
    return f"m-{number:05}.bench.test"


def address_of(number: int) -> str:
    """Where its peer port listens: each has a loopback address of its own."""
    return f"127.1.{number // _HOSTS}.{number % _HOSTS + 1}:{_PORT}"
