"""kill -9 of every kind of process where membership passes each failpoint of its changes, on both databases.

Membership stops at the failpoint; then membership itself dies there (of two replicas each), or the CA, or all agents, or
PostgreSQL. The change ends or is rolled back, and at no moment are there two primaries, two CAs that issue for an array
which is not changing, or a member without a valid certificate.

`make faults-membership` kills every kind at every failpoint; the short form one of each kind, at failpoints that a seed
chooses, which is printed (`KEYREEVE_SEED` repeats it). `KEYREEVE_VICTIMS=agents,ca` confines the long form.
"""

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from keyreeve.operation_values import OperationState
from support.change_failpoints import EVERY, FAILPOINTS, SEED
from support.forked_ca import forked_ca, forking_program
from support.postgres import Server, own_server
from support.watched_changes import WatchedChanges, watched_changes

__all__ = ["forking_program"]

VICTIMS = {"sqlite": ("membership", "ca", "agents"), "postgresql": ("membership", "ca", "agents", "postgresql")}
CHANGES: dict[str, tuple[Callable[[WatchedChanges], None], Callable[[WatchedChanges], str]]] = {
    "membership.join": (WatchedChanges.prepare_to_join, WatchedChanges.join),
    "membership.publish": (WatchedChanges.prepare_to_join, WatchedChanges.join),
    "membership.leave": (WatchedChanges.prepare_to_detach, WatchedChanges.detach),
    "membership.rotation": (lambda _: None, WatchedChanges.promote),
    "membership.rotation.undone": (lambda _: None, WatchedChanges.roll_back),
}
"""What passes a failpoint: how it is prepared, and how it begins."""


def kills(database: str) -> list[tuple[str, str]]:
    """Victim and failpoint of each kill."""
    rng = random.Random(f"{SEED} {database}")
    if EVERY:
        chosen = os.environ.get("KEYREEVE_VICTIMS", ",".join(VICTIMS[database])).split(",")
        return [(victim, failpoint) for victim in VICTIMS[database] if victim in chosen for failpoint in FAILPOINTS]
    # Membership on both, PostgreSQL on PostgreSQL, and the CA and the agents on one each.
    others = random.Random(SEED).sample(["ca", "agents"], 2)
    victims = {"sqlite": ("membership", others[0]), "postgresql": ("membership", others[1], "postgresql")}[database]
    return [(victim, rng.choice(FAILPOINTS)) for victim in victims]


@contextmanager
def world_on(database: str, program: "subprocess.Popen[str]") -> Iterator[tuple[WatchedChanges, Server | None]]:
    """All processes, of PostgreSQL a server of its own."""
    with ExitStack() as stack:
        server, urls, names = None, dict.fromkeys(("ca", "membership")), ("one",)
        if database == "postgresql":
            server, names = stack.enter_context(own_server()), ("one", "two")
            for name in urls:
                server.execute(f"CREATE DATABASE {name}")
                urls[name] = server.url(name)
        ca = stack.enter_context(forked_ca(program, urls["ca"]))
        yield stack.enter_context(watched_changes(ca, urls["membership"], names)), server


@pytest.mark.thorough_on("postgresql")
@pytest.mark.faults
@pytest.mark.timeout(2400 if EVERY else 300)
@pytest.mark.parametrize("database", VICTIMS)
def test_whatever_is_killed_where_the_change_ends_or_is_rolled_back(
    database: str, forking_program: "subprocess.Popen[str]"
) -> None:
    print(f"KEYREEVE_SEED={SEED}")
    with world_on(database, forking_program) as (world, server):
        for victim, failpoint in kills(database):
            begun = time.monotonic()
            try:
                kill_during_change(world, server, victim, failpoint)
            except BaseException as failure:
                failure.add_note(f"{victim} was killed at {failpoint}")
                raise
            print(f"{victim} at {failpoint}: {time.monotonic() - begun:.1f} s")


def kill_during_change(world: WatchedChanges, server: Server | None, victim: str, failpoint: str) -> None:
    prepare, begin = CHANGES.get(failpoint) or CHANGES[failpoint.rpartition(".")[0]]
    prepare(world)
    world.arm(failpoint)
    with world.watched():
        operation = begin(world)
        assert world.at_failpoint() is not None
        kill(world, server, victim, operation)
        with world.nursed():
            ended = world.finish(operation)
            assert ended.state in {OperationState.SUCCEEDED, OperationState.CANCELLED, OperationState.FAILED}
            world.check_end()


def kill(world: WatchedChanges, server: Server | None, victim: str, operation: str) -> None:
    """Kill what is to be killed while a replica stands at its failpoint."""
    if victim == "membership":
        for _ in world.replicas:  # the other one goes on, and comes to the failpoint unless that step is done
            leader = world.at_failpoint(operation)
            if leader is not None:
                leader.kill()
    elif victim == "ca":
        world.ca.kill()
    elif victim == "agents":
        world.kill_agents()
    else:
        assert server is not None
        world.ca.may_fail = True
        server.kill()
        server.start()
