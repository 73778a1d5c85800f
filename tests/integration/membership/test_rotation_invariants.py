"""A state machine of arrays, members, agents and leaders with crashes, repeated messages and leaders that wake late.

Invariants: I1 no CA issues before every counted member has acknowledged it, and its peer port has answered a check or an
admin has waived that by its name; I2 none is dropped while a counted member needs it; I3 an array has one primary; I4 epochs
only grow, each naming the one before; I5 what an old leader writes or orders is refused, and changes nothing. A cloned member
holds its rotation.
"""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from keyreeve import errors
from keyreeve_chassis.leases.leadership import FencedStore
from keyreeve_chassis.leases.ports import LeaseLost
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_membership.authorities.orders import LEASE
from keyreeve_membership.authorities.ports import CaState, KeyType
from keyreeve_membership.changes.quarantine import Quarantine
from keyreeve_membership.changes.service import DETACH, JOIN
from keyreeve_membership.roll.ports import ArrayState, MemberState
from keyreeve_membership.rotations.ports import Phase as RotationPhase
from keyreeve_membership.rotations.ports import Rotation, RotationKind
from keyreeve_membership.rotations.service import START, NewRotation
from keyreeve_membership.store.sql import MembershipTransaction
from keyreeve_membership.store.tables import metadata
from support.membership_model import Crashed
from support.rotation_world import ADMIN, EXAMPLES, NAMES, REFUSALS, World

_TROUBLE = ("fall_silent_or_answer", "clone", "waive")


class Machine(World):
    """What may happen, in any order."""

    @rule(name=st.sampled_from(NAMES))
    def turn(self, name: str) -> None:
        """An agent does all that it can."""
        server = self.servers[name]
        self._report(server)
        self._load(server)
        self._renew(server)
        self._report(server)

    @rule()
    def all_turn(self) -> None:
        for name in NAMES:
            self.turn(name)

    @rule(name=st.sampled_from(NAMES))
    def load_only(self, name: str) -> None:
        """An agent loads and acknowledges, and its certificate comes later."""
        self._load(self.servers[name])

    @rule(name=st.sampled_from(NAMES))
    def repeat_acknowledgement(self, name: str) -> None:
        """A message is sent again."""
        server = self.servers[name]
        with suppress(errors.ArrayNotFound):  # it has left that array meanwhile
            self._acknowledge(server)

    @rule(name=st.sampled_from(NAMES))
    def restart(self, name: str) -> None:
        """An agent starts again: what its former start acknowledged does not count."""
        server = self.servers[name]
        server.boot_id = uuid.uuid4().hex
        self._report(server)

    @rule(name=st.sampled_from(NAMES))
    def fall_silent_or_answer(self, name: str) -> None:
        """A peer port answers nothing, whatever its agent says; or it answers again."""
        self.servers[name].silent = not self.servers[name].silent

    @rule(name=st.sampled_from(NAMES))
    def clone(self, name: str) -> None:
        """A copy of a server reports, and then the server itself."""
        server = self.servers[name]
        first, server.boot_id = server.boot_id, uuid.uuid4().hex
        self._report(server)
        server.boot_id, server.cloned = first, True
        self._report(server)

    @rule()
    def repair(self) -> None:
        """Peer ports answer, and cloned servers are taken back."""
        for server in self.servers.values():
            server.silent = False
            if not server.cloned:
                continue
            self._cancel_joins()
            self.work(2)
            self._quarantine(server.name)
            self.work(2)
            self._readmit(server.name)

    # --- Operators

    def _try(self, work: Callable[[MembershipTransaction], Any]) -> bool:
        with suppress(*REFUSALS):  # refused: nothing has changed
            self.store.here(work)
            return True
        return False

    def _quarantine(self, name: str) -> None:
        self._try(lambda tx: Quarantine(self.authorities, self.seconds).quarantine(tx, name, ADMIN, "dead"))

    def _readmit(self, name: str) -> None:
        if self._try(lambda tx: Quarantine(self.authorities, self.seconds).readmit(tx, name, ADMIN)):
            self.servers[name].cloned = False

    @rule(primary=st.sampled_from(NAMES), secondary=st.sampled_from(NAMES))
    def join(self, primary: str, secondary: str) -> None:
        def work(tx: MembershipTransaction) -> None:
            member = tx.roll.member(primary)
            assert member is not None
            array = tx.roll.array(member.array_id)
            assert array is not None
            self.changes.join(tx, primary, secondary, array.authority_sha256, ADMIN)

        self._try(work)

    @rule(name=st.sampled_from(NAMES))
    def promote(self, name: str) -> None:
        self._try(lambda tx: self.rotations.promote(tx, name, ADMIN))

    @rule(name=st.sampled_from(NAMES))
    def detach(self, name: str) -> None:
        self._try(lambda tx: self.changes.detach(tx, name, ADMIN))

    @rule(name=st.sampled_from(NAMES))
    def clean(self, name: str) -> None:
        self._try(lambda tx: self.changes.clean(tx, name, ADMIN, only_if_disagreeing=False))

    @rule(name=st.sampled_from(NAMES))
    def dissolve(self, name: str) -> None:
        def work(tx: MembershipTransaction) -> None:
            member = tx.roll.member(name)
            assert member is not None
            self.changes.dissolve(tx, member.array_id, ADMIN)

        self._try(work)

    @rule(
        name=st.sampled_from(NAMES),
        kind=st.sampled_from(sorted(set(RotationKind) - {RotationKind.PROMOTE})),
        trouble=st.lists(st.tuples(st.sampled_from(_TROUBLE), st.sampled_from(NAMES)), max_size=3),
    )
    def rotate(self, name: str, kind: RotationKind, trouble: Sequence[tuple[str, str]] = ()) -> None:
        """Begin a rotation, which has trouble as it goes on."""
        key_type = KeyType.P384 if kind is RotationKind.ALGORITHM_CHANGE else KeyType.P256
        asked = NewRotation(kind, key_type, 50 if kind is RotationKind.EMERGENCY else 0)

        def work(tx: MembershipTransaction) -> None:
            member = tx.roll.member(name)
            assert member is not None
            self.rotations.start(tx, member.array_id, asked, ADMIN)

        if self._try(work):
            self.work(1)
            for what, other in trouble:
                getattr(self, what)(other)
                self._look_at_clones()
                self.everything_works()
                self._look_at_clones()

    @rule()
    def roll_back(self) -> None:
        rotation_ids = [operation.operation_id for operation in self._running() if operation.method == START][-1:]
        for rotation_id in rotation_ids:
            if self._try(lambda tx, one=rotation_id: self.rotations.roll_back(tx, one, ADMIN)):
                # A waiver was for the check of a peer port, not for what a rollback waits for.
                self.waived = {one for one in self.waived if one[0] != rotation_id}

    @rule(name=st.sampled_from(NAMES))
    def waive(self, name: str) -> None:
        """An admin takes the statement of one member alone, by its name."""
        for operation in self._running():
            waived = operation.method == START and self._try(
                lambda tx, one=operation: self.rotations.waive(tx, one.operation_id, name)
            )
            if waived:
                self.waived.add((operation.operation_id, name))

    @rule()
    def cancel(self) -> None:
        self._cancel_joins()
        for operation in self._running():
            if operation.method == DETACH:
                self.store.here(lambda tx, one=operation: tx.operations.request_cancel(one.operation_id))

    def _cancel_joins(self) -> None:
        for operation in self._running():
            if operation.method == JOIN:
                self.store.here(lambda tx, one=operation: tx.operations.request_cancel(one.operation_id))

    @rule(name=st.sampled_from(NAMES))
    def quarantine_or_readmit(self, name: str) -> None:
        member = self.store.here(lambda tx: tx.roll.member(name))
        if member.state is MemberState.QUARANTINED:
            self._readmit(name)
        else:
            self._quarantine(name)

    @rule()
    def time_passes(self) -> None:
        self.store.now += 60

    # --- Leaders

    def _running(self) -> list[Operation]:
        return [
            replace(one, cancel_requested=False) for one in self.store.here(lambda tx: list(tx.operations.running()))
        ]

    @rule()
    def lead(self) -> None:
        """Another process becomes the leader."""
        nonce = uuid.uuid4().hex
        self.lease = self.store.here(lambda tx: tx.leases.acquire(LEASE, nonce, 10**6, take_over=True))

    def _step(self, operation: Operation, lease: Any) -> Any:
        return self.steps[operation.method](FencedStore(self.store, lease), operation)

    @rule(steps=st.integers(1, 4))
    def work(self, steps: int) -> None:
        for _ in range(steps):
            for operation in self._running():
                self._do(self._step(operation, self.lease))

    def _do(self, step: Any) -> None:
        with suppress(errors.Unavailable, LeaseLost, Crashed):
            self.run(step)

    @rule()
    def everything_works(self) -> None:
        self.all_turn()
        self.work(2)

    @rule(at=st.integers(1, 3), after=st.booleans())
    def die(self, at: int, after: bool) -> None:
        """The leader dies at an order, before or after the CA has carried it out; another one goes on."""
        self.authorities.crash_in, self.authorities.after = at, after
        for operation in self._running():
            self._do(self._step(operation, self.lease))
        self.authorities.crash_in = -1
        self.lead()

    @rule()
    def wake_late(self) -> None:
        """Two leaders sleep before an order while a third one works; then they wake, and change nothing (I5)."""
        # No precondition: ids of operations are random, and with them their order and what runs after the same steps.
        if not self._running():
            return

        async def race() -> None:
            gate = self.authorities.asleep = asyncio.Event()
            late = []
            for _ in range(2):
                late.append(asyncio.ensure_future(self._step(self._running()[0], self.lease)))
                for _ in range(5):
                    await asyncio.sleep(0)
                self.lead()
                if not self._running():  # it had nothing to order, and has ended
                    break
            self.authorities.asleep = None
            asleep = [one for one in late if not one.done()]
            for operation in self._running():
                with suppress(errors.Unavailable, LeaseLost):
                    await self._step(operation, self.lease)
            before = (self._everything(), dict(self.authorities.known), len(self.authorities.issued))
            gate.set()
            await asyncio.gather(*late, return_exceptions=True)
            for one in asleep:
                assert isinstance(one.exception(), (LeaseLost, errors.KeyreeveError)), one
            assert (self._everything(), dict(self.authorities.known), len(self.authorities.issued)) == before

        self.run(race())

    def _everything(self) -> list[Any]:
        names = ("arrays", "members", "epochs", "rotations", "operations")
        return self.store.here(lambda tx: [tx._connection.execute(metadata.tables[n].select()).all() for n in names])

    # --- What has to be true

    @invariant()
    def every_array_has_one_primary(self) -> None:
        def look(tx: MembershipTransaction) -> None:
            for array in tx.roll.arrays(after="", limit=1000, dissolved=False):
                members = tx.roll.members_of(array.array_id)
                assert sum(one.primary for one in members) == 1, "I3"
                assert self.authorities.known[array.authority_id].state is CaState.ACTIVE, "its CA issues"
                if len(members) == 1:
                    assert members[0].state in {MemberState.STANDALONE, MemberState.JOINING, MemberState.QUARANTINED}

        self.store.here(look)

    @invariant()
    def a_cloned_member_holds_its_rotation(self) -> None:
        self._look_at_clones()

    def _look_at_clones(self) -> None:
        def look(tx: MembershipTransaction) -> dict[str, tuple[Any, ...]]:
            found = {}
            for operation in tx.operations.running():
                rotation = tx.rotations.get(operation.operation_id)
                if rotation is None or rotation.phase is RotationPhase.PREPARED:
                    continue
                counted = [one.name for one in tx.roll.members_of(rotation.array_id) if one.counted]
                cloned = frozenset(name for name in counted if self.servers[name].cloned)
                if cloned:
                    found[rotation.rotation_id] = (cloned, rotation.phase, rotation.final_epoch)
            return found

        before, self.held = self.held, self.store.here(look)
        for rotation_id, (cloned, phase, final_epoch) in before.items():
            now = self.store.here(lambda tx, one=rotation_id: tx.rotations.get(one))
            counted = self.store.here(
                lambda tx, one=now: [m.name for m in tx.roll.members_of(one.array_id) if m.counted]
            )
            if any(self.servers[name].cloned for name in cloned & set(counted)):
                assert (now.phase, now.final_epoch) in {(phase, final_epoch), (RotationPhase.ROLLED_BACK, 0)}
                assert now.ended_at is None

    @invariant()
    def epochs_only_grow(self) -> None:
        def look(tx: MembershipTransaction) -> None:
            for array in tx.roll.arrays(after="", limit=1000, dissolved=True):
                epochs = tx.epochs.page(array.array_id, after=0, limit=1000)
                assert [one.epoch for one in epochs] == list(range(1, len(epochs) + 1)), "I4"
                digests = [b"", *(one.digest for one in epochs)]
                assert [one.previous_digest for one in epochs] == digests[:-1], "I4"
                assert array.epoch == len(epochs)
                if array.state is ArrayState.ACTIVE:
                    assert array.authority_id in {one.authority_id for one in epochs[-1].authorities}

        self.store.here(look)

    @invariant()
    def nothing_has_failed(self) -> None:
        ended = self.store.here(lambda tx: list(tx.operations.page(None, before="", limit=1000)))
        assert {one.error_reason for one in ended if one.state is OperationState.FAILED} <= {"UNREACHABLE"}


@pytest.mark.slow
@pytest.mark.timeout(120 + 10 * EXAMPLES)
@pytest.mark.parametrize("examples", [2, pytest.param(EXAMPLES, marks=pytest.mark.faults)])
def test_rotations_keep_their_invariants(examples: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, phases=[Phase.generate], suppress_health_check=checks
        ),
    )


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Three servers in one array, of which a rotation has distributed its new CA; the ports of two are silent."""
    made = Machine()
    made.begin(joined=True)
    for name in NAMES[1:3]:
        made.fall_silent_or_answer(name)
    made.rotate(NAMES[0], RotationKind.SCHEDULED)
    yield made
    made.close()


def test_a_waiver_counts_for_the_member_that_it_names_alone_and_a_clone_holds_whatever_is_waived(
    machine: Machine,
) -> None:
    def rotation() -> Rotation:
        [found] = machine.store.here(lambda tx: tx.rotations.page(before="", limit=9, array_id=""))
        return found

    def waited_for() -> list[str]:
        machine.everything_works()
        machine.everything_works()
        assert rotation().phase is RotationPhase.DISTRIBUTED
        [operation] = machine._running()
        return [f"{one.resource.removeprefix('members/')}: {one.reason.partition(':')[0]}" for one in operation.waiting]

    one, two = NAMES[1:3]
    assert waited_for() == [f"{name}: answer on its peer port" for name in (one, two)]
    machine.waive(one)
    assert waited_for() == [f"{two}: answer on its peer port"]
    machine.clone(one)
    machine.waive(two)
    assert waited_for() == [f"{one}: run once"]
    machine.repair()
    for _ in range(6):
        machine.everything_works()
    assert rotation().phase is RotationPhase.DISTRUSTED
