"""The feed of revoked callers to our own services: all of them, then what is new, then a signed sign of life each second.

Every update says "from `after_seq` to `seq` these and no others were revoked, as of `time`", and is signed with the key
of this process's own certificate, whose chain comes first: a service that keeps updates on disk can tell whose word they
are. A process that has itself heard nothing lately says nothing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from keyreeve.revocation_feed import update_message
from keyreeve_ca.revocation.known_revocations import LiveRevocations
from keyreeve_ca.revocation.ports import Revocation
from keyreeve_ca.store.ports import Store, Transaction

HEARTBEAT_SECONDS = 1.0
_LOOK_SECONDS = 0.1
_SILENT_AFTER = 2.0
"""Seconds: what this process knows is older, so it does not vouch for it."""
_PAGE = 2_000


@dataclass(frozen=True, slots=True)
class Update:
    """One message of the feed."""

    restore_generation: int
    after_seq: int
    seq: int
    time: int
    revoked: tuple[tuple[bytes, int], ...]
    """Serial number and last instant of each certificate."""
    signature: bytes
    signer_der: tuple[bytes, ...]
    """The signer's chain, leaf first; in the first update of a stream and whenever it has changed."""


@dataclass(frozen=True)
class RevocationFeed:
    """Answers WatchRevocations."""

    store: Store
    live: LiveRevocations
    trust_domain: str
    now: Callable[[], int]
    sign: Callable[[bytes], tuple[bytes, tuple[bytes, ...]]]
    """Signs a message with the process's own key; the signature and the chain of that key's certificate."""
    clock: Callable[[], float] = field(default=lambda: asyncio.get_running_loop().time())

    async def watch(self, restore_generation: int, after_seq: int) -> AsyncIterator[Update]:
        """Updates for somebody who holds everything up to `after_seq` of a restore generation; 0 for nobody's knowledge."""
        told: tuple[bytes, ...] = ()
        held, next_beat = (restore_generation, after_seq), float("-inf")
        while True:
            fresh = self.live.age() < _SILENT_AFTER
            news = fresh and held != self.live.position
            if not news and not (fresh and self.clock() >= next_beat):
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            update = self._update(*await self.store.read(partial(self._read, *held)), told)
            yield update
            told, held = update.signer_der or told, (update.restore_generation, update.seq)
            next_beat = self.clock() + HEARTBEAT_SECONDS

    def _read(self, restore_generation: int, held: int, tx: Transaction) -> tuple[int, int, int, list[Revocation]]:
        """The restore generation, the numbers that the answer is between, and what was revoked between them."""
        control_plane = tx.control_plane()
        assert control_plane is not None, "the control plane exists before anything is served"
        last = tx.revocations.last_seq()
        # Whoever holds another history than ours gets all of this one.
        start = held if control_plane.restore_generation == restore_generation and held <= last else 0
        if last == start:
            return control_plane.restore_generation, start, last, []
        rows = tx.revocations.callers_after(start, expiring_from=self.now() - 600, limit=_PAGE)
        return control_plane.restore_generation, start, rows[-1].seq if len(rows) == _PAGE else last, rows

    def _update(
        self, restore_generation: int, after: int, last: int, rows: Sequence[Revocation], told: tuple[bytes, ...]
    ) -> Update:
        revoked = tuple((row.serial, row.not_after) for row in rows)
        time = self.now()
        signature, chain = self.sign(
            update_message(self.trust_domain, restore_generation, after_seq=after, seq=last, time=time, revoked=revoked)
        )
        return Update(restore_generation, after, last, time, revoked, signature, () if chain == told else chain)
