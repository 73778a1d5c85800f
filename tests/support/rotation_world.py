"""The arrays, members and agents of the state machine of rotations, and what one of them does when it is its turn."""

import asyncio
import os
import uuid
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from keyreeve import errors, keys
from keyreeve.values import Name
from keyreeve_membership.authorities.ports import KeyType, Order
from keyreeve_membership.changes.joining import Joining
from keyreeve_membership.changes.leaving import Leaving
from keyreeve_membership.changes.progress import PUBLISH
from keyreeve_membership.changes.publishing import Publishing
from keyreeve_membership.changes.quarantine import QUARANTINE, Quarantine
from keyreeve_membership.changes.service import CLEAN, DETACH, DISSOLVE, JOIN, Changes
from keyreeve_membership.peers.ports import PeerAnswer
from keyreeve_membership.roll.ports import ArrayView, MemberState, Report
from keyreeve_membership.roll.service import Roll, Server
from keyreeve_membership.rotations.ports import Phase as RotationPhase
from keyreeve_membership.rotations.service import START, Rotations
from keyreeve_membership.rotations.steps import RotationSteps
from keyreeve_membership.store.sql import MembershipTransaction
from support.membership_model import Authorities, Store

NAMES = tuple(f"m{i}.example.test" for i in range(4))
EXAMPLES = int(os.environ.get("KEYREEVE_ROTATION_EXAMPLES", "8"))
"""More are worth a night."""
ADMIN = "spiffe://example.test/operators/admin/ann"
REFUSALS = (errors.FailedPrecondition, errors.InvalidArgument, errors.NotFound, errors.AlreadyExists)


_KEY = keys.make_key()


@dataclass
class SimulatedServer:
    """A server with its agent."""

    name: str
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    array: str = ""
    epoch: int = 0
    digest: bytes = b""
    trusted: frozenset[str] = frozenset()
    certificate: str = ""
    authority: str = ""
    silent: bool = False
    """Its peer port does not answer."""
    cloned: bool = False
    """Two boots of it have reported in turn, and nobody has taken it back since."""


class World(RuleBasedStateMachine):
    """The control plane and its servers."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.authorities = Authorities()
        self.authorities.check = self.check_order
        self.loop = asyncio.new_event_loop()
        self.servers: dict[str, SimulatedServer] = {}
        self.lease: Any = None
        self.answered: set[tuple[str, str]] = set()
        """Each authority and boot whose peer port has answered a check with a certificate of that authority."""
        self.waived: set[tuple[str, str]] = set()
        """Each rotation and member of which an admin takes the statement alone."""
        self.held: dict[str, tuple[Any, ...]] = {}
        """Where each rotation was that a cloned member held, after the last rule."""
        now, now_ms = self.seconds, lambda: self.store.now * 1000
        self.roll = Roll(now)
        self.changes = Changes(now, now_ms, 1_000_000)
        self.rotations = Rotations(now, now_ms, 1_000_000)
        joining = Joining(self.authorities, self, now, 1_000_000)
        leaving = Leaving(self.authorities, self.roll, now)
        rotating = RotationSteps(self.rotations, self.authorities, self, now)
        self.steps = {
            JOIN: joining.step,
            **dict.fromkeys((DETACH, DISSOLVE, CLEAN), leaving.step),
            START: rotating.step,
            PUBLISH: Publishing(self.authorities, now).step,
            QUARANTINE: Quarantine(self.authorities, now).step,
        }

    def teardown(self) -> None:
        """In the end, with servers that do their part and a leader that lives, everything ends."""
        if self.servers:
            for _ in range(12):
                if not self._running():
                    break
                self.repair()
                self.everything_works()
            assert [one.method for one in self._running()] == []
        self.close()

    def close(self) -> None:
        self.loop.close()
        self.store.engine.dispose()

    def seconds(self) -> int:
        return self.store.now

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def check(self, member: str, address: str, *, authority_id: str, trusted_der: Any) -> PeerAnswer:
        """A peer port accepts what its agent has loaded."""
        server = self.servers[member]
        known = self.authorities.known
        presents = server.authority in known and known[server.authority].certificate_der in trusted_der
        problem = "" if authority_id in server.trusted and presents else "UNAVAILABLE: certificate unknown"
        problem = "DEADLINE_EXCEEDED: no answer" if server.silent else problem
        if not problem:
            self.answered.add((authority_id, server.boot_id))
        return PeerAnswer(problem, server.boot_id)

    @initialize(joined=st.booleans())
    def begin(self, *, joined: bool) -> None:
        for name in NAMES:
            self.register(name)
        self.lead()
        for name in NAMES:
            self.turn(name)
        for name in NAMES[1:3] if joined else ():
            self.join(NAMES[0], name)
            for _ in range(3):
                self.everything_works()

    def register(self, name: str) -> None:
        array_id = name.partition(".")[0]
        order = Order(array_id, 1, 1, 0, "create")
        self.run(self.authorities.create(order, f"{array_id}-0", name, KeyType.P256))
        made = self.run(self.authorities.activate(order, f"{array_id}-0"))
        server = Server(name, "127.0.0.1:1", (), "5.40.1")
        self.store.here(lambda tx: self.roll.create_array(tx, array_id, server, made, peer_security=True, actor=ADMIN))
        self.servers[name] = SimulatedServer(name)

    # --- Agents

    def _report(self, server: SimulatedServer) -> None:
        def report(tx: MembershipTransaction) -> None:
            member = tx.roll.member(server.name)
            assert member is not None
            present = [one for one in tx.roll.members_of(server.array) if one.state is not MemberState.QUARANTINED]
            primary = next((one.name for one in present if one.primary), "")
            view = ArrayView(server.array, primary, tuple(one.name for one in present), server.epoch, server.digest)
            now_ms = self.store.now * 1000
            made = Report(
                member.member_uid,
                now_ms,
                now_ms,
                server.boot_id,
                view if server.array else None,
                (),
                server.certificate,
                server.authority,
                0,
                None,
                None,
                stopped=False,
                booted_at_ms=now_ms,
            )
            self.roll.report(tx, member, made)

        self.store.here(report)

    def _load(self, server: SimulatedServer) -> None:
        def load(tx: MembershipTransaction) -> Any:
            member = tx.roll.member(server.name)
            assert member is not None
            epoch = tx.epochs.newest(member.joining_array_id or member.array_id)
            assert epoch is not None
            return epoch

        epoch = self.store.here(load)
        server.array, server.epoch, server.digest = epoch.array_id, epoch.epoch, epoch.digest
        server.trusted = frozenset(one.authority_id for one in epoch.authorities)
        self._acknowledge(server)

    def _acknowledge(self, server: SimulatedServer) -> None:
        try:
            self.store.here(
                lambda tx: self.roll.acknowledge(
                    tx,
                    server.name,
                    server.array,
                    boot_id=server.boot_id,
                    epoch=server.epoch,
                    digest=server.digest,
                )
            )
        except errors.ClonedMember:
            assert server.cloned

    def _renew(self, server: SimulatedServer) -> None:
        csr = keys.make_csr(_KEY, [Name.dns(server.name)], common_name=server.name)
        try:
            _, authority_id = self.store.here(lambda tx: self.roll.issuer_of(tx, server.name))
            if authority_id == server.authority:
                return
            issued = self.run(self.authorities.issue_peer(authority_id, server.name, csr, "r"))
        except errors.MemberStateWrong:
            return
        server.certificate, server.authority = issued.serial, issued.authority_id

    def check_order(self, what: str, authority_id: str) -> None:
        """I1 and I2, at the moment at which the CA carries out an order."""

        def look(tx: MembershipTransaction) -> None:
            for rotation in tx.rotations.page(before="", limit=100, array_id=""):
                if rotation.ended_at is not None:
                    continue
                counted = [one for one in tx.roll.members_of(rotation.array_id) if one.counted]
                acknowledged = tx.roll.acknowledgements([one.member_uid for one in counted])
                if what == "activate" and authority_id == rotation.new_authority_id:
                    for one in counted:
                        server, said = self.servers[one.name], acknowledged[one.member_uid]
                        assert (said.boot_id, said.epoch >= rotation.epoch) == (server.boot_id, True), "I1"
                        assert authority_id in server.trusted, "I1"
                        assert not server.cloned, "a clone holds its rotation"
                        waived = (rotation.rotation_id, one.name) in self.waived
                        assert waived or (authority_id, server.boot_id) in self.answered, "I1: a statement alone"
                if what == "destroy" and authority_id in {rotation.old_authority_id, rotation.new_authority_id}:
                    rolled_back = rotation.phase is RotationPhase.ROLLED_BACK
                    for one in counted:
                        waived = rolled_back and (rotation.rotation_id, one.name) in self.waived
                        assert waived or self.servers[one.name].authority != authority_id, "I2"

        self.store.here(look)
