"""Rounds of dialing the peers, and what a report says of them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from keyreeve.membership_values import Epoch
from keyreeve.membership_values import PeerReach as ReportedReach
from keyreeve_agent.material.values import RollMember
from keyreeve_agent.peers.view import ArrayView, PeerReach

DIAL_SECONDS = 10.0
"""Interval of the rounds."""
DIAL_MOST = 32
"""Peers of one round, in turn: if all dialed all, members of large arrays would do nothing else."""
REPORTED_PEERS = 64
"""Peers in a report, those that are not reached first: reports of large arrays stay small."""
_LOOK_SECONDS = 0.25

_log = structlog.get_logger(__name__)


class PeersDialed(Protocol):
    """Dials peers."""

    async def dial_all(self, members: Sequence[RollMember]) -> dict[str, PeerReach]: ...


@dataclass(frozen=True)
class PeerRounds:
    """The rounds of one member."""

    view: ArrayView
    peers: PeersDialed
    publish: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic

    async def run(self) -> None:
        """Dial peers now and then, and soon after the array has changed, forever."""
        last = self.view.name
        while True:
            roll, epoch = self.view.roll, self._epoch()
            others = [one for one in self.view.members if one.name != self.view.name]
            chosen = next_peers(others, last)
            try:
                found = await self.peers.dial_all(chosen)
                present = {one.name for one in others}
                kept = {name: one for name, one in self.view.reached.items() if name in present}
                self.view.reached = {**kept, **found}
                self.publish()
            except Exception:  # noqa: BLE001 - a peer must not stop this member from dialing the others
                _log.exception("dialing the peers failed")
            last = chosen[-1].name if chosen else last
            ends = self.clock() + DIAL_SECONDS
            # Several events change it. A roll is replaced, never changed, and comparing large ones takes time.
            while self.clock() < ends and self.view.roll is roll and self._epoch() == epoch:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_SECONDS)

    def _epoch(self) -> Epoch | None:
        return None if self.view.loaded is None else self.view.loaded.material.epoch


def next_peers(others: Sequence[RollMember], last: str, most: int = DIAL_MOST) -> list[RollMember]:
    """The peers to dial after the one named `last`, in a circle; `others` are in order of their names."""
    start = sum(one.name <= last for one in others)
    return [*others[start:], *others[:start]][:most]


def reported_peers(reached: Mapping[str, PeerReach]) -> tuple[ReportedReach, ...]:
    """What a report says of peers."""
    chosen = sorted(reached.values(), key=lambda one: (one.reachable, one.member))[:REPORTED_PEERS]
    return tuple(
        ReportedReach(f"members/{one.member}", one.reachable, one.problem, one.clock_difference_ms)
        for one in sorted(chosen, key=lambda one: one.member)
    )
