"""Admission control: how much one process and one peer may have in progress."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address, ip_network
from sys import intern
from urllib.parse import unquote

from keyreeve.errors import TooManyConnections, TooManyInFlight
from keyreeve.identity import Caller

_MOST_ADDRESSES = 10_000
"""Addresses whose calls are remembered; about 200 bytes each."""


@dataclass(frozen=True, slots=True)
class GuardLimits:
    """How much a process accepts. Durations in seconds."""

    calls_in_flight: int = 512
    streams_in_flight: int = 1024
    connections_per_peer: int = 64
    request_bytes: int = 2 * 1024 * 1024
    """Of methods that take batches."""
    single_request_bytes: int = 256 * 1024
    """Of all others."""
    deadline: float = 60.0
    """The longest deadline that a call may ask for."""
    stream_life: float = 3600.0
    """When a long stream is ended, with OK: its caller opens another."""
    verify_interval: float = 1.0
    """How often the caller of an open stream is verified again."""
    retry_after: float = 0.2
    """What a call refused for load is told to wait."""


class InFlight:
    """Counts calls in progress; beyond the cap a call is refused at once instead of queued."""

    def __init__(self, most: int, retry_after: timedelta) -> None:
        """Take the cap and the retry delay of refusals."""
        self._most = most
        self._retry_after = retry_after
        self.count = 0

    def enter(self) -> None:
        """Count one call, or raise `TooManyInFlight`. `leave` must follow only if this returned."""
        if self.count >= self._most:
            raise TooManyInFlight(
                f"{self._most} calls are in progress here and no more are accepted", retry_after=self._retry_after
            )
        self.count += 1

    def leave(self) -> None:
        """Count a call that ended."""
        self.count -= 1

    def keep_free(self, count: int) -> None:
        """Raise `TooManyInFlight` if the calls that have entered leave less room than for `count`."""
        if self.count > self._most - count:
            raise TooManyInFlight(
                f"{self.count} calls are in progress here, and the rest is kept for services",
                retry_after=self._retry_after,
            )


class FairShare:
    """Counts the calls in progress of each identity, so that none takes all capacity."""

    def __init__(self, what: str, most: int, retry_after: timedelta) -> None:
        """Take the cap (one identity may use three quarters of it) and the retry delay."""
        self._what = what
        self._most = most
        self._share = max(1, most * 3 // 4)
        self._retry_after = retry_after
        self._total = 0
        self._of: dict[Hashable, int] = {}

    def refuse_beyond(self, caller: Hashable, weight: int = 1) -> None:
        """Raise `TooManyInFlight` if `enter` would: before more is spent on the call."""
        theirs = self._of.get(caller, 0)
        if theirs + weight > self._share:
            most = self._share
        elif self._total + weight > self._most:
            most = self._most
        else:
            return
        raise TooManyInFlight(
            f"{self._total} {self._what} are in progress here, {theirs} of them for you; no more are accepted now",
            metadata={"most": str(most), "in_hand": str(self._total), "yours": str(theirs)},
            retry_after=self._retry_after,
        )

    def enter(self, caller: Hashable, weight: int = 1) -> None:
        """Count one call, or raise `TooManyInFlight`. `leave` must follow only if this returned."""
        self.refuse_beyond(caller, weight)
        self._total += weight
        self._of[caller] = self._of.get(caller, 0) + weight

    def leave(self, caller: Hashable, weight: int = 1) -> None:
        """Count a call that ended."""
        self._total -= weight
        left = self._of[caller] - weight
        if left:
            self._of[caller] = left
        else:
            del self._of[caller]


class ConcurrentReads:
    """Lets few reads of a caller be worked on at once while others call, so that theirs do not come behind hundreds of its own.

    The threads that read take what they are given in the order of its arrival.
    """

    def __init__(self, most: int = 2, beside_seconds: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Take how many are worked on at once, and how long after the end of its last call another caller counts."""
        self._most = most
        self._beside_seconds = beside_seconds
        self._clock = clock
        self._here: Counter[Hashable] = Counter()
        """Calls of each caller that are worked on or wait."""
        self._begun: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._last: Hashable = None
        self._last_at = self._other_at = float("-inf")
        """When the last caller was last seen, and when another one last was."""

    @asynccontextmanager
    async def take(self, caller: Hashable) -> AsyncIterator[None]:
        """Wait for the call's turn, which it has while the context lasts."""
        self._see(caller)
        self._here[caller] += 1
        try:
            if self._begun[caller] >= self._most and self._is_beside_others():
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.setdefault(caller, deque()).append(turn)
                try:
                    await turn
                except asyncio.CancelledError:
                    if not turn.cancelled():
                        self._end(caller)  # its turn came with the cancellation
                    raise
            else:
                self._begun[caller] += 1
            try:
                yield
            finally:
                self._end(caller)
        finally:
            self._see(caller)
            self._here[caller] -= 1
            if not self._here[caller]:
                del self._here[caller]

    def _see(self, caller: Hashable) -> None:
        if caller != self._last:
            self._last, self._other_at = caller, self._last_at
        self._last_at = self._clock()

    def _is_beside_others(self) -> bool:
        return len(self._here) > 1 or self._clock() - self._other_at < self._beside_seconds

    def _end(self, caller: Hashable) -> None:
        self._begun[caller] -= 1
        waiting = self._waiting.get(caller)
        while waiting and self._begun[caller] < self._most:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._begun[caller] += 1
        if not waiting:
            self._waiting.pop(caller, None)
        if not self._begun[caller]:
            del self._begun[caller]


class ConnectionsPerPeer:
    """Counts, for each identity, the transport addresses that have a call in progress.

    Open connections, with calls or without, are counted where they are accepted (`rpc.sockets.transport`).
    """

    def __init__(self, most: int) -> None:
        """Take how many connections of one identity may have calls in progress at once."""
        self._most = most
        self._busy: dict[tuple[str, ...], dict[str, int]] = {}

    def enter(self, caller: Caller, address: str) -> None:
        """Count one call, or raise `TooManyConnections`. `leave` must follow only if this returned."""
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
        """Count a call that ended."""
        addresses = self._busy[caller.id.path]
        calls = addresses[address] - 1
        if calls:
            addresses[address] = calls
        else:
            del addresses[address]
            if not addresses:
                del self._busy[caller.id.path]


class PerAddress:
    """Limits per network address, for callers without an identity: concurrency and rate.

    An IPv6 address counts as its /64, which a provider assigns to one customer. A full bucket is forgotten.
    """

    def __init__(self, most: int, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the concurrent calls, the sustained rate per second, and the burst."""
        self._most = most
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._busy: dict[str, int] = {}
        self._buckets: dict[str, tuple[float, float]] = {}

    @contextmanager
    def admit(self, peer: str) -> Iterator[None]:
        """Count one call of the peer while the context lasts, or raise `TooManyInFlight`."""
        address = address_of(peer)
        if self._busy.get(address, 0) >= self._most:
            raise TooManyInFlight(
                f"{self._most} calls from your address are in progress", retry_after=timedelta(seconds=1)
            )
        self._take(address)
        self._busy[address] = self._busy.get(address, 0) + 1
        try:
            yield
        finally:
            self._busy[address] -= 1
            if not self._busy[address]:
                del self._busy[address]

    def _take(self, address: str) -> None:
        now = self._clock()
        left, then = self._buckets.pop(address, (float(self._burst), now))
        left = min(self._burst, left + (now - then) * self._per_second)
        self._buckets[address] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._forget(now)
        if left < 1:
            wait = timedelta(seconds=(1 - left) / self._per_second)
            raise TooManyInFlight("your address calls too often", retry_after=wait)

    def _forget(self, now: float) -> None:
        """Drop full buckets, then the least recently used."""
        full = self._burst / self._per_second
        for address in [a for a, (_, then) in self._buckets.items() if now - then > full]:
            del self._buckets[address]
        for address in list(self._buckets)[: max(0, len(self._buckets) - _MOST_ADDRESSES)]:
            del self._buckets[address]


def address_of(peer: str) -> str:
    """Return the address of `ipv4:192.0.2.1:4711`; an IPv6 address as its /64, all of Unix sockets as one."""
    if peer.startswith("unix:"):
        return "unix"
    host = unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        found = ip_address(host)
    except ValueError:
        return peer
    return intern(str(ip_network((found, 64), strict=False)) if found.version == 6 else host)
