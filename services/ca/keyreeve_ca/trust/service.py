"""The feed of callers to our own services: all that decides about them, then what changes, and an update every 2 s.

Every update says "from `after_seq` to `seq` these facts and no others changed, as of `time`", and is signed with the key
of this process's own certificate, whose chain comes first: a service that keeps updates on disk can tell whose word they
are. A process whose own data is stale sends nothing.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from keyreeve.caller_feed import update_message
from keyreeve.caller_values import CallersUpdate
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_ca.trust.ports import CallerChanges

HEARTBEAT_SECONDS = 2.0
_LOOK_SECONDS = 0.25
SILENT_AFTER = 2.0
"""Seconds: what this process knows is older, so it does not vouch for it."""
PAGE = 2_000
"""Entries of each kind in one update."""
SKEW = 600
"""Seconds for which an expired certificate is still told of: clocks differ."""


class LivePosition(Protocol):
    """What this process has heard of changes, without what they are."""

    @property
    def position(self) -> tuple[int, int]:
        """The restore generation, and the number up to which everything is known."""
        ...

    @property
    def complete_at(self) -> float:
        """When everything committed by then was known here, on the scale of `time.monotonic`."""
        ...

    async def changed(self, seconds: float) -> None:
        """Return when the position has changed, or after so many seconds."""
        ...


@dataclass(frozen=True)
class CallerFeed:
    """Answers WatchCallers."""

    store: Store
    live: LivePosition
    trust_domain: str
    now: Callable[[], int]
    sign: Callable[[bytes], tuple[bytes, tuple[bytes, ...]]]
    """Signs a message with the process's own key; the signature and the chain of that key's certificate."""
    clock: Callable[[], float] = time.monotonic
    whole: Callable[[], bool] = lambda: True
    """Whether the tables behind the feed are: when they were altered, nobody gets them from the beginning."""
    heartbeat: float = HEARTBEAT_SECONDS

    async def watch(self, restore_generation: int, after_seq: int) -> AsyncIterator[CallersUpdate]:
        """Updates for a follower who holds everything up to `after_seq` of a restore generation; 0 for nothing."""
        told: tuple[bytes, ...] = ()
        held, whole = (restore_generation, after_seq), True
        read_at = next_beat = float("-inf")
        while True:
            began = self.clock()
            fresh = began - self.live.complete_at < SILENT_AFTER
            if not self.whole() and (held[1] == 0 or held[0] != self.live.position[0]):
                fresh = False  # what is missing from an altered table cannot be told
            # What was known here before the last reading of the database says nothing new.
            news = not whole or (held != self.live.position and self.live.complete_at >= read_at)
            if not fresh or not (news or began >= next_beat):
                await self.live.changed(max(0.05, next_beat - began) if fresh else _LOOK_SECONDS)
                continue
            if news:
                generation, changes = await self.store.read(partial(self._read, *held))
                read_at = self.clock()
            else:
                generation, changes = held[0], CallerChanges(held[1], held[1], held[1])
            update = self._signed(generation, changes)
            yield update if update.signer_der != told else replace(update, signer_der=())
            told, held, whole = update.signer_der, (generation, changes.seq), changes.seq == changes.head_seq
            next_beat = self.clock() + self.heartbeat

    def _read(self, restore_generation: int, held: int, tx: Transaction) -> tuple[int, CallerChanges]:
        """The restore generation, and what a follower lacks: everything, when it holds another history."""
        control_plane = tx.control_plane()
        assert control_plane is not None, "the control plane exists before anything is served"
        after = held if control_plane.restore_generation == restore_generation else 0
        changes = tx.callers.changes(after, expiring_from=self.now() - SKEW, limit=PAGE)
        return control_plane.restore_generation, changes

    def _signed(self, restore_generation: int, changes: CallerChanges) -> CallersUpdate:
        update = CallersUpdate(
            restore_generation,
            changes.after_seq,
            changes.seq,
            changes.head_seq,
            self.now(),
            changes.authorities,
            changes.operators,
            changes.revoked,
            members=changes.members,
            closed_sessions=changes.closed_sessions,
        )
        signature, chain = self.sign(update_message(self.trust_domain, update))
        return replace(update, signature=signature, signer_der=chain)
