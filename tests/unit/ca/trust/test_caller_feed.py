"""The feed of callers as one process of the CA sends it: what comes when, and when it says nothing."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from keyreeve.caller_feed import update_message
from keyreeve.caller_values import CallersUpdate
from keyreeve_ca.trust.ports import CallerChanges
from keyreeve_ca.trust.service import CallerFeed

NOW = 1_800_000_000


@dataclass
class Ca:
    """A process of the CA: its database, what it has heard of, its certificate, a clock that waiting moves."""

    generation: int = 1
    revoked: list[bytes] = field(default_factory=list)
    page: int = 100
    seconds: float = 100.0
    position: tuple[int, int] = (1, 0)
    complete_at: float = 100.0
    hears: bool = True
    heartbeat: float = 2.0
    reads: int = 0
    chain: tuple[bytes, ...] = (b"leaf", b"issuer")
    waits: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.seconds

    async def changed(self, seconds: float) -> None:
        """Let time pass until followers have read the database."""
        self.waits.append(seconds)
        self.seconds += seconds
        if self.hears:
            self.hear()
        await asyncio.sleep(0)

    def hear(self) -> None:
        self.position, self.complete_at = (self.generation, len(self.revoked)), self.seconds

    def changes(self, after: int, *, expiring_from: int, limit: int) -> CallerChanges:
        assert expiring_from == NOW - 600
        assert limit == 2_000
        head = len(self.revoked)
        start = after if after <= head else 0
        upto = min(head, start + self.page)
        return CallerChanges(start, upto, head, revoked=tuple((one, NOW + 1) for one in self.revoked[start:upto]))

    async def read(self, work: Any) -> Any:
        self.reads += 1
        self.seconds += 0.001
        plane = SimpleNamespace(restore_generation=self.generation)
        return work(SimpleNamespace(control_plane=lambda: plane, callers=self))

    def sign(self, message: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        return b"signed " + message, self.chain

    def watch(self, restore_generation: int = 0, after_seq: int = 0) -> AsyncIterator[CallersUpdate]:
        store: Any = self
        feed = CallerFeed(store, self, "example.test", lambda: NOW, self.sign, self.clock, heartbeat=self.heartbeat)
        return feed.watch(restore_generation, after_seq)


def span(update: CallersUpdate) -> tuple[int, int, int, int]:
    return update.restore_generation, update.after_seq, update.seq, update.head_seq


async def test_a_snapshot_then_what_is_new_then_a_heartbeat_every_two_seconds_without_reading() -> None:
    ca = Ca(revoked=[b"1", b"2"], position=(1, 2))
    updates = ca.watch()
    first = await anext(updates)
    assert (span(first), [one for one, _ in first.revoked]) == ((1, 0, 2, 2), [b"1", b"2"])
    began = ca.seconds
    beats = [await anext(updates) for _ in range(3)]
    assert [span(beat) for beat in beats] == [(1, 2, 2, 2)] * 3
    assert ca.seconds - began == pytest.approx(6.0, abs=0.1)
    assert ca.reads == 1
    ca.revoked.append(b"3")
    ca.hear()
    news = await anext(updates)
    assert (span(news), [one for one, _ in news.revoked], ca.reads) == ((1, 2, 3, 3), [b"3"], 2)


async def test_a_large_snapshot_comes_in_parts_without_a_pause() -> None:
    ca = Ca(revoked=[bytes([n]) for n in range(5)], page=2, position=(1, 5))
    updates = ca.watch()
    assert [span(await anext(updates)) for _ in range(3)] == [(1, 0, 2, 5), (1, 2, 4, 5), (1, 4, 5, 5)]
    assert ca.waits == []
    assert span(await anext(updates)) == (1, 5, 5, 5)


async def test_a_follower_that_comes_back_gets_what_it_lacks() -> None:
    ca = Ca(revoked=[b"1", b"2"], position=(1, 2))
    assert span(await anext(ca.watch(1, 1))) == (1, 1, 2, 2)
    assert span(await anext(ca.watch(1, 2))) == (1, 2, 2, 2)
    assert span(await anext(ca.watch(7, 2))) == (1, 0, 2, 2), "of another history"
    assert span(await anext(ca.watch(1, 9))) == (1, 0, 2, 2), "of a history that has been undone"


async def test_a_restored_database_begins_anew_for_open_streams() -> None:
    ca = Ca(revoked=[b"1", b"2"], position=(1, 2))
    updates = ca.watch()
    await anext(updates)
    ca.generation, ca.revoked = 2, [b"9"]
    ca.seconds += 0.1
    ca.hear()
    assert span(await anext(updates)) == (2, 0, 1, 1)


async def test_a_reading_that_is_ahead_of_what_the_process_has_heard_is_not_repeated_until_it_catches_up() -> None:
    ca = Ca(revoked=[b"1", b"2"], position=(1, 1), hears=False, heartbeat=1.0)
    updates = ca.watch()
    assert span(await anext(updates)) == (1, 0, 2, 2)
    assert span(await anext(updates)) == (1, 2, 2, 2)
    assert (ca.reads, ca.waits != []) == (1, True)


async def test_a_process_that_has_heard_nothing_for_two_seconds_says_nothing() -> None:
    ca = Ca(revoked=[b"1"], position=(1, 1), hears=False, heartbeat=1.0)
    updates = ca.watch()
    await anext(updates)
    await anext(updates)
    ca.seconds = ca.complete_at + 2.0
    waiting = asyncio.ensure_future(anext(updates))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not waiting.done()
    ca.hears = True
    assert span(await waiting) == (1, 1, 1, 1)


async def test_every_update_is_signed_and_the_chain_comes_first_and_when_it_has_changed() -> None:
    ca = Ca(revoked=[b"1"], position=(1, 1))
    updates = ca.watch()
    found = [await anext(updates), await anext(updates)]
    ca.chain = (b"renewed", b"issuer")
    found += [await anext(updates), await anext(updates)]
    assert [one.signer_der for one in found] == [(b"leaf", b"issuer"), (), (b"renewed", b"issuer"), ()]
    assert [one.signature for one in found] == [b"signed " + update_message("example.test", one) for one in found]
    assert {one.time for one in found} == {NOW}
