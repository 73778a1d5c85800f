"""What a listener bounds before any handler runs: rates, times and bytes."""

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from keyreeve_chassis.rpc import wire
from keyreeve_chassis.token_bucket import TokenBucket


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How much one connection may do. Durations in seconds."""

    request_bytes: int
    metadata_bytes: int
    streams: int
    resets_burst: int
    resets_per_second: int
    refusals_burst: int
    refusals_per_second: int
    preface_timeout: float
    message_timeout: float
    stall_timeout: float
    age: float
    grace: float
    idle: float
    keepalive_interval: float
    keepalive_timeout: float
    ping_interval: float


_CONNECTIONS = 4
"""How many connections' worth of resets one caller may make on all of its own."""


_READING = (0.1, 0.1)
"""Seconds of this process at once, and in each second for long, that it reads from one caller for nothing."""
_ANSWER_SECONDS = 0.001
"""Of reading, for which an answered call makes up: most take a tenth of it, one of 100 certificates about as much."""
_BYTE_SECONDS = 10e-9
"""For each byte of a large request: an answer makes up for so much more reading, and a refusal costs so much for parsing."""
_REFUSAL_SECONDS = 0.0005
"""What a call costs beside reading that is refused: for a fault of its caller, such as a bad signature, or since there are
too many."""


class Standing:
    """Counts what a caller costs without getting anything, on all its connections: a new one does not begin anew."""

    __slots__ = ("_reading", "_refusals", "_resets")

    def __init__(self, limits: ConnectionLimits, now: float) -> None:
        """Take the rates."""
        burst, per_second = _CONNECTIONS * limits.resets_burst, _CONNECTIONS * limits.resets_per_second
        self._resets = TokenBucket(burst, per_second, now)
        self._refusals = TokenBucket(limits.refusals_burst, limits.refusals_per_second, now)
        self._reading = TokenBucket(*_READING, now)

    def spend(self, seconds: float, now: float) -> None:
        """Count the processor's time that was spent on what the caller has sent."""
        self._reading.spend(seconds, now)

    def rest(self, now: float) -> float:
        """Return the seconds for which nothing more is read from the caller; 0: it may go on."""
        return self._reading.wait(now)

    def reset(self, now: float) -> bool:
        """Count a call that the caller gave up or made wrongly; False when there were too many."""
        return self._resets.take(now)

    def refused(self, now: float) -> bool:
        """Count a call that was refused for a fault of the caller; False when most of its calls are."""
        self._reading.spend(_REFUSAL_SECONDS, now)
        return self._refusals.take(now)

    def answered(self, size: int) -> None:
        """Count a call that was answered: it makes up for one that was refused, and for what was read."""
        self._refusals.give_back()
        self._reading.give_back(_ANSWER_SECONDS + size * _BYTE_SECONDS)

    def used_up(self, now: float) -> bool:
        """Whether the next reset or refusal would be too many."""
        return min(self._resets.left(now), self._refusals.left(now)) < 1

    def clean(self, now: float) -> bool:
        """Whether nothing is known against the caller."""
        return self._resets.full(now) and self._refusals.full(now) and self._reading.full(now)


_SETTINGS = (20.0, 1.0)
_EMPTY_FRAMES = (100.0, 10.0)
_PING_STRIKES = 2


class Conduct:
    """Counts what a peer does that costs it little and this server more."""

    __slots__ = ("_interval", "_ping_at", "_resets", "_strikes", "empty", "limits", "settings", "standing")

    def __init__(self, limits: ConnectionLimits, now: float, standing: Standing | None = None) -> None:
        """Take the rates, and what is known of the caller from other connections."""
        self.limits = limits
        self.standing = standing or Standing(limits, now)
        self._resets = TokenBucket(limits.resets_burst, limits.resets_per_second, now)
        self.settings = TokenBucket(*_SETTINGS, now)
        self.empty = TokenBucket(*_EMPTY_FRAMES, now)
        self._interval = limits.ping_interval
        self._ping_at = float("-inf")
        self._strikes = 0

    def ping(self, now: float) -> bool:
        """Count a ping; False when too many came without cause."""
        self._strikes = self._strikes + 1 if now - self._ping_at < self._interval else 0
        self._ping_at = now
        return self._strikes <= _PING_STRIKES

    def reset(self, now: float) -> bool:
        """Count a call that the peer gave up or made wrongly; False when there were too many, here or elsewhere."""
        here, everywhere = self._resets.take(now), self.standing.reset(now)
        return here and everywhere

    def finish(self, code: int, now: float, size: int = 0) -> bool:
        """Count a call that this side has ended, whose large request has so many bytes.

        False when most of the caller's are refused for its own fault.
        """
        self.answered()
        if code == wire.OK:
            self.standing.answered(size)
        else:
            busy = code == wire.RESOURCE_EXHAUSTED  # more calls than this caller is to have, or than there is room for
            self.standing.spend(size * _BYTE_SECONDS + busy * _REFUSAL_SECONDS, now)
        return code not in wire.FAULTS_OF_THE_CALLER or self.standing.refused(now)

    def answered(self) -> None:
        """Forgive pings: those that measure bandwidth follow data of ours."""
        self._strikes = 0


class Due(Enum):
    """What a connection owes to time."""

    CLOSE = "close"
    PING = "ping"
    DRAIN = "drain"


class Lifetime:
    """When a connection is asked for a sign of life, asked to end, and given up."""

    __slots__ = ("_limits", "_opened", "_pinged", "_read", "greeted", "idle_since")

    def __init__(self, limits: ConnectionLimits, now: float) -> None:
        """Begin."""
        self._limits = limits
        self._opened = self._read = self.idle_since = now
        self._pinged: float | None = None
        self.greeted = False
        """The peer has begun to speak HTTP/2."""

    def heard(self, now: float) -> None:
        """Note a sign of life."""
        self._read = now
        self._pinged = None

    def due(self, now: float, *, busy: bool) -> Due | None:
        """Say what is due now."""
        limits = self._limits
        if not self.greeted and now - self._opened > limits.preface_timeout:
            return Due.CLOSE
        if self._pinged is not None and now - self._pinged > limits.keepalive_timeout:
            return Due.CLOSE
        if now - self._opened > limits.age or (not busy and now - self.idle_since > limits.idle):
            return Due.DRAIN
        if self._pinged is None and now - self._read > limits.keepalive_interval:
            self._pinged = now
            return Due.PING
        return None


class Holder(Protocol):
    """What holds bytes that can be given up."""

    @property
    def caller(self) -> Hashable:
        """Who is charged for them."""
        ...

    def give_up(self) -> None:
        """Let go of everything held."""
        ...


class _Share:
    """What one caller holds."""

    __slots__ = ("held", "reserved", "total")

    def __init__(self) -> None:
        self.held: dict[Holder, int] = {}
        """The oldest first."""
        self.reserved = 0
        self.total = 0


class ByteBudget:
    """Bounds the bytes that all connections of a process buffer, and gives up those of the caller that holds the most.

    Limits per stream cannot do that: 500 clients with 100 streams of 64 KiB each hold 3.2 GB.
    """

    def __init__(self, most: int) -> None:
        """Take the bound; requests in progress of one caller may take three quarters of it."""
        self._most = most
        self._shares: dict[Hashable, _Share] = {}
        self._reserved = 0
        self.total = 0

    def hold(self, holder: Holder, count: int) -> None:
        """Note how much `holder` holds now.

        Beyond the bound, the caller with the largest share gives up what it has held longest: maybe `holder` itself.
        """
        share = self._shares.get(holder.caller)
        if share is None:
            if not count:
                return
            share = self._shares[holder.caller] = _Share()
        more = count - share.held.get(holder, 0)
        if not more:
            return
        if count:
            share.held[holder] = count
        else:
            del share.held[holder]
        self._add(holder.caller, share, more)

    def release(self, holder: Holder) -> None:
        """Note that `holder` holds nothing any more."""
        self.hold(holder, 0)

    def reserve(self, caller: Hashable, count: int) -> bool:
        """Count a request that a handler works on, which cannot be given up; False when there is no room for it."""
        share = self._shares.get(caller) or _Share()
        if self._reserved + count > self._most or (share.reserved and 4 * (share.reserved + count) > 3 * self._most):
            return False
        self._shares[caller] = share
        share.reserved += count
        self._reserved += count
        self._add(caller, share, count)
        return True

    def free(self, caller: Hashable, count: int) -> None:
        """Count a reserved request that is over."""
        share = self._shares[caller]
        share.reserved -= count
        self._reserved -= count
        self._add(caller, share, -count)

    def _add(self, caller: Hashable, share: _Share, more: int) -> None:
        self.total += more
        share.total += more
        if not share.total:
            del self._shares[caller]
        while self.total > self._most:
            largest = max((one for one in self._shares.values() if one.held), key=lambda one: one.total, default=None)
            if largest is None:
                return
            oldest = next(iter(largest.held))
            self.release(oldest)
            oldest.give_up()
