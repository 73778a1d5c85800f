"""A service that follows the caller feed of one worker."""

from collections.abc import Callable
from pathlib import Path

from cryptography import x509

from keyreeve import Client
from keyreeve.caller_feed import KnownCallers
from support.running_ca import RunningCa


class CallerFollower:
    """What such a service knows."""

    def __init__(self, ca: RunningCa, client: Client, path: Path | None = None) -> None:
        self.roots = x509.load_pem_x509_certificates(client.context.bundle.read_bytes())
        self.callers = KnownCallers(ca.settings.trust_domain, path)
        self.updates = client.trust.watch_callers()
        self.client = client

    def until(self, seen: Callable[[], bool]) -> None:
        for _ in range(20):
            if seen():
                return
            self.callers.apply(next(self.updates), self.roots)
        raise AssertionError("not within 20 updates")
