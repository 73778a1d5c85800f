"""A local program, and how it is told of new material."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class ProbeProtocol(StrEnum):
    """How TLS begins on a program's port."""

    TLS = "tls"
    POSTGRESQL = "postgresql"
    """With an SSLRequest before it (PostgreSQL protocol 3.0, 55.2.10)."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The port on which a program presents the peer certificate."""

    address: str
    protocol: ProbeProtocol = ProbeProtocol.TLS


@dataclass(frozen=True, slots=True)
class LocalProgram:
    """A program of the settings."""

    name: str
    reload: tuple[str, ...]
    """The command and its arguments; no shell sees them."""
    timeout: float = 10.0
    """Seconds for the command, and again for the port to present the new certificate."""
    probe: Probe | None = None
    directory: Path | None = None
    """Where it reads a copy of its own; None: the agent's."""
    owner: str | None = None
    """The user that owns the copy."""
