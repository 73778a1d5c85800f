"""How much one process and one peer may have in hand at once."""

from datetime import timedelta

from keyreeve.errors import TooManyConnections, TooManyInFlight
from keyreeve.identity import Caller


class InFlight:
    """Counts calls in progress; beyond the cap a call is refused at once, since a queue only makes every call late."""

    def __init__(self, most: int, retry_after: timedelta) -> None:
        """Take the cap and the wait that a refused caller is told."""
        self._most = most
        self._retry_after = retry_after
        self.count = 0

    def enter(self) -> None:
        """Count one call, or raise `TooManyInFlight`; `leave` must follow only when this returned."""
        if self.count >= self._most:
            raise TooManyInFlight(
                f"{self._most} calls are in progress here and no more are accepted", retry_after=self._retry_after
            )
        self.count += 1

    def leave(self) -> None:
        """Count a call that has ended."""
        self.count -= 1


class ConnectionsPerPeer:
    """Counts, for each identity, the transport addresses that have a call in progress.

    gRPC for Python does not tell when a connection opens or closes, so idle connections cannot be counted here; they
    are closed by their maximum idle time and age. A connection without calls costs memory only.
    """

    def __init__(self, most: int) -> None:
        """Take how many connections of one identity may have calls in progress at once."""
        self._most = most
        self._busy: dict[tuple[str, ...], dict[str, int]] = {}

    def enter(self, caller: Caller, address: str) -> None:
        """Count one call, or raise `TooManyConnections`; `leave` must follow only when this returned."""
        addresses = self._busy.setdefault(caller.id.path, {})
        calls = addresses.get(address, 0)
        if calls == 0 and len(addresses) >= self._most:
            raise TooManyConnections(
                f"{caller} has calls in progress on {self._most} connections",
                metadata={"most": str(self._most)},
                retry_after=timedelta(seconds=1),
            )
        addresses[address] = calls + 1

    def leave(self, caller: Caller, address: str) -> None:
        """Count a call that has ended."""
        addresses = self._busy[caller.id.path]
        calls = addresses[address] - 1
        if calls:
            addresses[address] = calls
        else:
            del addresses[address]
            if not addresses:
                del self._busy[caller.id.path]
