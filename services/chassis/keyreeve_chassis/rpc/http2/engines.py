"""The HTTP/2 engines: libnghttp2 where its wheel is installed, `h2` otherwise."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

from keyreeve_chassis.rpc.http2.port import Http2Connection


class MakeConnection(Protocol):
    """Makes the engine of one connection, its SETTINGS queued."""

    def __call__(self, *, streams: int, header_bytes: int, resets: tuple[int, int]) -> Http2Connection:
        """Take the most open streams, the largest header list, and resets in a burst and a second."""
        ...


@dataclass(frozen=True, slots=True)
class Engine:
    """One HTTP/2 implementation."""

    library: str
    connection: MakeConnection

    def __str__(self) -> str:
        return f"{self.library} {version(self.library)}"


def ngh2_engine() -> Engine:
    """Return the engine on libnghttp2. Raises `ImportError`."""
    from keyreeve_chassis.rpc.http2 import on_ngh2

    return Engine("ngh2", on_ngh2.http2_connection)


def h2_engine() -> Engine:
    """Return the engine in pure Python."""
    from keyreeve_chassis.rpc.http2 import on_h2

    return Engine("h2", on_h2.http2_connection)


def usable_engine() -> Engine:
    """Return the fastest engine that is installed."""
    try:
        return ngh2_engine()
    except ImportError:
        return h2_engine()
