"""Agents as real processes with traffic between all members, through joins, detaches and promotions in random order.

KEYREEVE_CHANGES and KEYREEVE_AGENTS make it longer; KEYREEVE_SEED repeats a run.
"""

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keyreeve.cli.tour.local_agents import LocalAgent
from keyreeve.cli.tour.talking import PeerCaller
from keyreeve.errors import KeyreeveError, Unavailable
from support.control_plane import ControlPlane
from support.local_servers import Servers
from support.waiting import wait_for

CHANGES = int(os.environ.get("KEYREEVE_CHANGES", "8"))
AGENTS = int(os.environ.get("KEYREEVE_AGENTS", "4"))
SEED = int(os.environ.get("KEYREEVE_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
REFUSED_SECONDS = 5.0


@dataclass
class Traffic:
    """Each member calls each other member of the array, all the time."""

    agents: list[LocalAgent]
    members: set[str] = field(default_factory=set)
    """Who is a member now, by name; changed under `lock`."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def talk(self, own: LocalAgent) -> None:
        caller = PeerCaller(own)
        while not self.stop.wait(0.02):
            for peer in self.agents:
                # Both are members while the call runs: a change waits for it.
                with self.lock:
                    if peer is own or not {own.name, peer.name} <= self.members:
                        continue
                    before = set(self.members)
                reason = caller.ping(peer)
                with self.lock:
                    self.calls += 1
                    if reason and {own.name, peer.name} <= self.members & before:
                        self.failures.append(f"{time.strftime('%T')} {own.name} to {peer.name}: {reason}")
        caller.close()


@pytest.fixture
def many(all_services: ControlPlane, tmp_path: Path) -> Iterator[Servers]:
    made = Servers(all_services, tmp_path, AGENTS)
    yield made
    made.stop()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_no_call_between_current_members_fails_and_a_detached_one_is_refused(many: Servers) -> None:
    print(f"KEYREEVE_SEED={SEED}")
    rng, traffic = random.Random(SEED), Traffic(many.all)
    threads = [threading.Thread(target=traffic.talk, args=(agent,), daemon=True) for agent in many.all]
    by_name = {agent.name: agent for agent in many.all}
    primary, inside = many.all[0], {many.all[0].name}
    for thread in threads:
        thread.start()
    try:
        for _ in range(CHANGES):
            outside = sorted(by_name.keys() - inside)
            secondaries = sorted(inside - {primary.name})
            kinds = ["join"] * bool(outside) + ["detach", "promote"] * bool(secondaries)
            kind = rng.choice(kinds)
            name = rng.choice(outside if kind == "join" else secondaries)
            if kind == "join":
                many.done(change(lambda name=name, peer=primary: many.begin_join(peer, by_name[name])))
                inside.add(name)
                wait_for("all have it in their roll", lambda: all(knows(by_name[one], inside) for one in inside))
                with traffic.lock:
                    traffic.members = set(inside)
            elif kind == "promote":
                many.done(change(lambda name=name: many.client.membership.arrays.promote(name)))
                primary = by_name[name]
            else:
                inside.discard(name)
                with traffic.lock:
                    traffic.members = set(inside)
                held, others = PeerCaller(by_name[name]), [by_name[one] for one in sorted(inside)]
                assert [held.ping(other) for other in others] == [""] * len(others), "on connections that stay open"
                operation = change(lambda name=name: many.client.membership.arrays.detach(name))
                told: dict[str, str] = {}
                wait_for("all refuse it", lambda held=held, o=others, t=told: all_refuse(held, o, t), REFUSED_SECONDS)
                assert told == {other.name: "PEER_NOT_MEMBER" for other in others}
                held.close()
                many.done(operation)
                by_name[name].wait_for(
                    "it stands alone", lambda status, name=name: [m["name"] for m in status["members"]] == [name]
                )
    finally:
        traffic.stop.set()
        for thread in threads:
            thread.join(10)
    assert traffic.failures == []
    assert traffic.calls > CHANGES


def all_refuse(held: PeerCaller, others: list[LocalAgent], told: dict[str, str]) -> bool:
    """Keep each member's first reason in `told`: once the caller is revoked, or has other files, there are more."""
    for other in others:
        if other.name not in told and (reason := held.ping(other)):
            told[other.name] = reason
    return len(told) == len(others)


def knows(agent: LocalAgent, names: set[str]) -> bool:
    return names <= {one["name"] for one in agent.status["members"]}


def change(begin: object) -> object:
    """Begin a change once the views of all members agree."""

    def begun() -> object:
        try:
            return begin()  # type: ignore[operator]
        except KeyreeveError as refused:
            if isinstance(refused, Unavailable) or refused.reason in {"VIEWS_DISAGREE", "CHANGE_IN_PROGRESS"}:
                return None
            raise

    return wait_for("the views agree", begun, 30)
