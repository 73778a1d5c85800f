"""Changes of an array of real agents, whose processes are killed meanwhile, and what must be true at every moment of it."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cryptography import x509
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from keyreeve import Client
from keyreeve.cli.tour.local_agents import LocalAgent, free_address
from keyreeve.cli.tour.talking import PeerCaller
from keyreeve.errors import DeadlinePassed, KeyreeveError, Unavailable
from keyreeve.membership_values import RotationKind
from keyreeve.operation_values import Operation, OperationState
from keyreeve.request_ids import new_request_id
from keyreeve.values import MemberState
from support.forked_ca import ForkedCa, again_and_again
from support.forked_membership import ForkedMembership, epoch_authorities, forked_membership, roll_reader, rows_of
from support.waiting import going_on, wait_for

T = TypeVar("T")

_AGENTS = 3
_CHANGE_SECONDS = 60.0


@dataclass
class WatchedChanges:
    """An array of two agents or more on a CA and membership of real processes."""

    ca: ForkedCa
    replicas: list[ForkedMembership]
    client: Client
    agents: list[LocalAgent]
    roll: Engine
    broken: list[str] = field(default_factory=list)
    """What was seen that must never be."""

    # --- The change -----------------------------------------------------------------------------------------------

    @property
    def _array(self) -> str:
        return self._name_of_array(self.agents[0])

    def _name_of_array(self, agent: LocalAgent) -> str:
        return again_and_again("a member", lambda: self.client.membership.members.get(agent.name)).array

    def _joined(self, agent: LocalAgent) -> bool:
        return self._name_of_array(agent) == self._array

    def prepare_to_join(self) -> None:
        if self._joined(self.agents[-1]):
            self.succeed(self.detach())

    def prepare_to_detach(self) -> None:
        if not self._joined(self.agents[-1]):
            self.succeed(self.join())

    def join(self) -> str:
        return self.join_agent(self.agents[-1])

    def join_agent(self, agent: LocalAgent) -> str:
        def begin(request_id: str) -> Operation:
            array = self.client.membership.arrays.get(self._array)
            primary = next(one for one in self.client.membership.members.list(array=array.name) if one.primary)
            return self.client.membership.arrays.join(
                primary.name, agent.name, accepted_sha256=array.authority_sha256, request_id=request_id
            )

        return begun("the join begins", begin).name

    def detach(self) -> str:
        name, arrays = self.agents[-1].name, self.client.membership.arrays
        return begun("the detach begins", lambda request_id: arrays.detach(name, request_id=request_id)).name

    def promote(self) -> str:
        """Make a secondary of the first two the primary: the third may be on its way."""

        def begin(request_id: str) -> Operation:
            members = list(self.client.membership.members.list(array=self._array))
            lasting = {f"members/{one.name}" for one in self.agents[:2]}
            name = next(one.name for one in members if not one.primary and one.name in lasting)
            return self.client.membership.arrays.promote(name, request_id=request_id)

        return begun("the promotion begins", begin).name

    def roll_back(self) -> str:
        """Start a rotation and roll it back at once."""
        rotations, array = self.client.membership.rotations, self._array
        started = begun(
            "a rotation begins",
            lambda request_id: rotations.start(array, RotationKind.SCHEDULED, request_id=request_id),
        )
        begun("it is rolled back", lambda request_id: rotations.roll_back(started.name, request_id=request_id))
        return started.operation

    def finish(self, operation: str) -> Operation:
        """Wait until an operation has ended."""

        seen: list[Operation] = []

        def ended() -> bool:
            seen[:] = [again_and_again("the operation", lambda: self.client.membership.operations.get(operation))]
            return seen[0].state is not OperationState.RUNNING

        try:
            wait_for("the operation ends", ended, _CHANGE_SECONDS)
        except AssertionError as failure:
            failure.add_note(f"{seen}")
            raise
        return seen[0]

    def succeed(self, operation: str) -> None:
        """Wait until an operation has succeeded."""
        ended = self.finish(operation)
        assert ended.state is OperationState.SUCCEEDED, ended

    # --- Processes ------------------------------------------------------------------------------------------------

    def arm(self, failpoint: str) -> None:
        """Have every replica stop where it passes the failpoint for the first time."""
        for replica in self.replicas:
            replica.stop()
            replica.start(f"{failpoint}=pause@1")
        for replica in self.replicas:
            replica.wait()

    def at_failpoint(self, operation: str | None = None) -> ForkedMembership | None:
        """Wait until a replica has come to its failpoint; None: the operation has ended without."""

        def look() -> list[ForkedMembership | None]:
            at = next((one for one in self.replicas if one.stopped), None)
            if at is None and operation is not None:
                found = [self.client.membership.operations.get(operation)] if self.replicas else []
                return [None] if found and found[0].state is not OperationState.RUNNING else []
            return [at] if at is not None else []

        def carefully() -> list[ForkedMembership | None]:
            try:
                return look()
            except (Unavailable, DeadlinePassed):
                return []

        return wait_for("a replica passes the failpoint", carefully)[0]

    def kill_agents(self) -> None:
        for agent in self.agents:
            agent.kill()
        for agent in self.agents:
            agent.start()

    @contextmanager
    def nursed(self) -> Iterator[None]:
        """Let stopped replicas go on, and start dead ones again."""
        with going_on(self._nurse):
            yield

    def _nurse(self) -> None:
        for replica in self.replicas:
            if replica.ended:
                replica.start()
            elif replica.stopped:
                replica.resume()

    # --- Invariants -----------------------------------------------------------------------------------------------

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look for what must never be, while the context is active."""
        with going_on(self._look):
            yield
        assert self.broken == []

    def _look(self) -> None:
        with suppress(DBAPIError):  # a killed database
            self._look_at_arrays()
        for agent in self.agents:
            with suppress(DBAPIError, OSError, ValueError):  # its set was replaced while it was read
                self._look_at_certificate(agent)

    def _look_at_arrays(self) -> None:
        query = "SELECT array_id, authority_id, change, order_number, order_step FROM arrays WHERE state = 'active'"
        before = rows_of(self.roll, query)
        primaries = dict(rows_of(self.roll, 'SELECT array_id, count(*) FROM members WHERE "primary" GROUP BY array_id'))
        issuing = self._issuing()
        unchanged = set(rows_of(self.roll, query))
        for row in before:
            array_id, authority_id, change, *_ = row
            if row not in unchanged:
                continue
            if primaries.get(array_id) != 1:
                self.broken.append(f"{array_id} has {primaries.get(array_id, 0)} primaries")
            active = issuing.get(array_id, set())
            if not change and active != {authority_id}:
                self.broken.append(f"{array_id} is not changing, and {sorted(active)} issue for it")
            if len(active) > 2 or authority_id not in active:
                self.broken.append(f"{array_id}: {sorted(active)} issue, and {authority_id} is in use")

    def _issuing(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for authority_id, owner in self.ca.rows(
            "SELECT authority_id, owner FROM authorities WHERE state = 'active' AND owner LIKE 'arrays/%'"
        ):
            found.setdefault(owner.partition("/")[2], set()).add(authority_id)
        return found

    def _look_at_certificate(self, agent: LocalAgent) -> None:
        """A member's certificate is valid and its issuer is trusted by all: unless it is on its way in or out."""
        used = agent.material.resolve(strict=True)
        facts = json.loads((used / "epoch.json").read_text())
        array_id = facts["array"].partition("/")[2]
        query = "SELECT state, revision FROM members WHERE name = :name AND array_id = :array AND state <> 'detached'"
        before = rows_of(self.roll, query, name=agent.name, array=array_id)
        if not before or before[0][0] not in {MemberState.MEMBER, MemberState.STANDALONE}:
            return
        [leaf] = x509.load_pem_x509_certificates((used / "certificate.pem").read_bytes())
        trusted = epoch_authorities(self.roll, array_id)
        revoked = self.ca.rows(f"SELECT reason FROM revocations WHERE serial = {self._blob(leaf.serial_number)}")
        if agent.material.resolve() != used or rows_of(self.roll, query, name=agent.name, array=array_id) != before:
            return
        if revoked:
            self.broken.append(f"the certificate of {agent.name} is revoked: {revoked}")
        if facts["authority"].partition("/")[2] not in trusted:
            self.broken.append(
                f"{agent.name} uses a certificate of {facts['authority']}, {sorted(trusted)} are trusted"
            )
        if leaf.not_valid_after_utc.timestamp() < time.time():
            self.broken.append(f"the certificate of {agent.name} has expired")

    def _blob(self, serial: int) -> str:
        sqlite = self.ca.engine.dialect.name == "sqlite"
        return f"x'{serial:032x}'" if sqlite else f"'\\x{serial:032x}'::bytea"

    def check_end(self) -> None:
        """Everything has ended, all members agree and reach each other, and one CA issues for each array."""
        self._look()
        assert self.broken == []
        wait_for("all members agree", lambda: again_and_again("the members", self._agree))
        running = [one for one in self._operations() if one.state is OperationState.RUNNING]
        assert running == []
        inside = [one for one in self.agents if self._joined(one)]
        for own in inside:
            caller = PeerCaller(own)
            for peer in inside:
                # An agent that was killed may only be starting.
                reached = lambda caller=caller, peer=peer: not caller.ping(peer)  # noqa: E731
                assert own is peer or wait_for(f"{own.name} reaches {peer.name}", reached)
            caller.close()

    def _operations(self) -> list[Operation]:
        return again_and_again("the operations", lambda: list(self.client.membership.operations.list()))

    def _agree(self) -> bool:
        for array in self.client.membership.arrays.list():
            for member in self.client.membership.members.list(array=array.name):
                if member.report is None or member.report.disagreements:
                    return False
                if member.report.status.authority != array.authority:
                    return False
        return all(one.state is not OperationState.RUNNING for one in self.client.membership.operations.list())


@contextmanager
def watched_changes(ca: ForkedCa, url: str | None, names: tuple[str, ...]) -> Iterator[WatchedChanges]:
    """An array of two agents, and a third agent beside it."""
    with ExitStack() as stack:
        ca.serve()
        stack.callback(ca.abandon)
        context = again_and_again("the first operator has a certificate", ca.admit)
        stack.enter_context(ca.nursed())
        with Client(context, timeout=10) as admin:
            replicas = stack.enter_context(
                forked_membership(ca, admin, url, names, ROLL__REPORT_SECONDS="2", ROLL__JOIN_SECONDS="50")
            )
            addresses = [replica.address for replica in replicas]
            agents = []
            for number in range(_AGENTS):
                name = f"web-{number}.example.test"
                agent = LocalAgent(name, free_address(f"127.0.0.{40 + number}"), ca.directory / name)
                agents.append(agent)
                agent.configure({"membership": addresses})
                token = admin.tokens.create(f"spiffe://example.test/members/{name}", address=ca.enroll_address)
                agent.enroll(token.text)
                agent.start()
                stack.callback(agent.stop)
        endpoints = {**context.endpoints, "membership": addresses}
        client = stack.enter_context(Client(replace(context, endpoints=endpoints), timeout=10))
        roll = roll_reader(replicas[0])
        stack.callback(roll.dispose)
        changes = WatchedChanges(ca, replicas, client, agents, roll)
        for agent in agents:
            agent.wait_for("it stands alone", lambda status: bool(status.get("array")))
        changes.succeed(changes.join_agent(agents[1]))
        yield changes


def begun(what: str, begin: Callable[[str], T]) -> T:
    """Begin a change once the views of all members agree and nothing else changes; `begin` is told the request id."""
    request_id = new_request_id()

    def attempt() -> list[T]:
        try:
            return [begin(request_id)]
        except KeyreeveError as refused:
            if isinstance(refused, Unavailable | DeadlinePassed) or refused.reason in _NOT_YET:
                return []
            raise

    return wait_for(what, attempt)[0]


_NOT_YET = {"VIEWS_DISAGREE", "CHANGE_IN_PROGRESS", "MEMBER_UNREACHABLE", "UNREACHABLE"}
