"""What a command of the site says of the server's sessions; no I/O."""

from dataclasses import dataclass

STOPPED = "stopped"
"""What the command prints while the server's programs are stopped."""


@dataclass(frozen=True, slots=True)
class ServerSessions:
    """The sessions on a server."""

    running: int = 0
    suspended: int = 0
    stopped: bool = False
    """The server's programs are stopped: there are no sessions, and settings for stopped servers may change."""


def read_sessions(output: str) -> ServerSessions:
    """Read `RUNNING SUSPENDED` or `stopped`. Raises `ValueError`."""
    words = output.split()
    if words == [STOPPED]:
        return ServerSessions(stopped=True)
    running, suspended = (int(one) for one in words)
    return ServerSessions(running, suspended)
