"""The callers that a process knows: whom to trust, by snapshot, and who is revoked, followed by number."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, LiveSnapshot
from keyreeve_ca.revocation.ports import Revocation
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.changes.following import follow_changes
from keyreeve_chassis.database.ports import Wait
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.peers import OperatorRecord, TrustView
from keyreeve_chassis.guard.router import Forward

PAGE = 5_000
"""Revocations read in one step."""
SKEW = 600
"""Seconds for which an expired certificate is still remembered: clocks differ, and some certificates' have just begun."""

LOOK_SECONDS = 1.0
"""Between two looks though nothing is said to have changed: callers are refused where what is known is older than 5 s."""


class TrustViews:
    """The current view of trusted callers, made once for each snapshot: many people may have records."""

    def __init__(self, snapshot: IssuanceSnapshot) -> None:
        self._view = _view_of(snapshot)

    def current(self) -> TrustView:
        """The view; asked on every call."""
        return self._view

    def show(self, snapshot: IssuanceSnapshot) -> None:
        """Replace the view if the snapshot is of another version."""
        if snapshot.config_version != self._view.generation:
            self._view = _view_of(snapshot)

    async def follow(self, live: LiveSnapshot) -> None:
        """Show each new snapshot, forever."""
        while True:
            snapshot = live.current()
            self.show(snapshot)
            await live.changed_since(snapshot.config_version)


@dataclass(frozen=True)
class LearningForward:
    """A `Forward` after which this process knows what was changed: its next call finds it."""

    change: Forward
    live: LiveSnapshot
    trust: TrustViews
    revocations: "LiveRevocations"

    async def __call__(self, method: str, request: bytes, call: Call) -> bytes:
        """Run a mutation, and read what it has changed before the caller gets the answer."""
        response = await self.change(method, request, call)
        with suppress(StoreUnavailable):  # it has happened, and what follows changes tries again
            await self.live.refresh()
            self.trust.show(self.live.current())
            await self.revocations.refresh()
        return response


def _view_of(snapshot: IssuanceSnapshot) -> TrustView:
    operators = {who: OperatorRecord(person.person_uid, person.since) for who, person in snapshot.operators.items()}
    return TrustView(snapshot.trust_domain, snapshot.control_issuers(), snapshot.config_version, operators)


class LiveRevocations:
    """A `Revocations` port. `now` is in seconds since 1970, `clock` is monotonic."""

    def __init__(self, store: Store, now: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._expiry: dict[int, int] = {}
        self._closed_sessions: dict[str, int] = {}
        self._restore_generation = 0
        self._seq = 0
        self._complete_at = float("-inf")
        self._tidy_at = PAGE
        self._changed = asyncio.Event()

    def is_revoked(self, serial: int) -> bool:
        """Whether the certificate with this serial number has been revoked."""
        return serial in self._expiry

    def is_session_closed(self, session: str) -> bool:
        """Whether the session of an operator with this id has been closed."""
        return session in self._closed_sessions

    def age(self) -> float:
        """Seconds since this process was known to be up to date; infinite before the first refresh."""
        return self._clock() - self._complete_at

    @property
    def complete_at(self) -> float:
        """When everything committed by then was known here; minus infinity before the first time."""
        return self._complete_at

    @property
    def position(self) -> tuple[int, int]:
        """The restore generation, and the number up to which everything is known."""
        return self._restore_generation, self._seq

    async def changed(self, seconds: float) -> None:
        """Return when the position has changed, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def refresh(self) -> None:
        """Read the new revocations. Raises `StoreUnavailable`."""
        began, before = self._clock(), self.position
        known = self._complete_at > float("-inf") and before == await self._newest()
        while not known:
            known = await self._step()
        self._complete_at = began
        if self.position != before:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        # Not each time: with 100,000 in it the event loop would stand still for 10 ms, four times a second.
        if len(self._expiry) + len(self._closed_sessions) > self._tidy_at:
            ended = self._now() - SKEW
            self._expiry = {serial: expiry for serial, expiry in self._expiry.items() if expiry >= ended}
            self._closed_sessions = {one: end for one, end in self._closed_sessions.items() if end >= ended}
            self._tidy_at = PAGE + 2 * (len(self._expiry) + len(self._closed_sessions))

    async def follow(self, wait: Wait) -> None:
        """Refresh when something may be new, and every `LOOK_SECONDS`, forever."""
        await follow_changes("revocations", wait, self.refresh, LOOK_SECONDS)

    async def _newest(self) -> tuple[int, int]:
        return await self._store.read(lambda tx: tx.revocations.position(), one_statement=True)

    async def _step(self) -> bool:
        """Read one page; return whether it was the last."""
        known, restore_generation = self._seq, self._restore_generation

        def read(tx: Transaction) -> tuple[int, int, list[Revocation], list[tuple[str, int]], bool]:
            control_plane = tx.control_plane()
            assert control_plane is not None, "the control plane exists before anything is served"
            last = tx.revocations.last_seq()
            # A database that was restored counts from an older number: start again.
            start = known if control_plane.restore_generation == restore_generation and last >= known else 0
            if last == start:
                return control_plane.restore_generation, last, [], [], True
            from_ = self._now() - SKEW
            rows = tx.revocations.callers_after(start, expiring_from=from_, limit=PAGE)
            closed = tx.sessions.closed_after(start, ending_from=from_, limit=PAGE)
            # A kind with a full page may go on after it.
            full = [page[-1] for page in ([row.seq for row in rows], [one[0] for one in closed]) if len(page) == PAGE]
            ended = [(session, end) for _, session, end in closed]
            return control_plane.restore_generation, min(full, default=last), rows, ended, not full

        self._restore_generation, self._seq, rows, ended, whole = await self._store.read(read)
        self._expiry.update((int.from_bytes(row.serial, "big"), row.not_after) for row in rows)
        self._closed_sessions.update(ended)
        return whole
