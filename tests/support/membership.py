"""The membership service in this process over real mutual TLS, with the CAs of arrays in memory."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from fakes.array_authorities import FakeArrayAuthorities
from keyreeve import aio, keys
from keyreeve.context import Context
from keyreeve.errors import AccessDenied, ArrayNotFound
from keyreeve.identity import service_dns_name
from keyreeve.membership_values import ArrayView, Epoch, Instruction, Server, Status
from keyreeve.operation_values import Operation, OperationState
from keyreeve.retry import RetryPolicy
from keyreeve.values import Name
from keyreeve_chassis.guard.peers import TrustView
from keyreeve_chassis.processes.solo import RunningService, run_solo
from keyreeve_chassis.settings.sections import DatabaseSettings
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.tls import ServerIdentity
from keyreeve_membership.app import STORAGE, Membership, MembershipContext
from keyreeve_membership.changes import progress
from keyreeve_membership.peers.ports import PeerAnswer
from keyreeve_membership.settings import MembershipSettings, RollSettings
from keyreeve_membership.store.schema import SCHEMA
from support.access_matrix import operators
from support.peer_certificates import TRUST_DOMAIN, Hierarchies
from support.running import KnownRevocations
from support.service_in_process import database_url, migrate_file
from support.waiting import moment

RELEASE = "5.40.908"
progress.WAIT_SECONDS = 0.05  # agents here do their part at once


@dataclass
class MembershipIdentity:
    """An identity that the test issues; it has the names of two services, so that every kind of client finds one."""

    hierarchies: Hierarchies
    revocations: KnownRevocations = field(default_factory=KnownRevocations)

    def server_identity(self) -> ServerIdentity:
        leaf = self.hierarchies.control.leaf(
            uris=[f"spiffe://{TRUST_DOMAIN}/services/membership/one"],
            dns=[service_dns_name(name, TRUST_DOMAIN) for name in ("ca", "membership")],
        )
        return ServerIdentity(leaf.chain_pem, leaf.key_pem, self.hierarchies.control_root.pem)

    def trust_view(self) -> TrustView:
        view = TrustView(TRUST_DOMAIN, (self.hierarchies.control.certificate,), 1)
        return replace(view, operators=operators())

    def jobs(self) -> tuple[()]:
        return ()


@dataclass
class FakePeers:
    """Peer ports that answer, but for the named ones."""

    problems: dict[str, str] = field(default_factory=dict)
    checked: list[tuple[str, str]] = field(default_factory=list)
    """Member and authority of each check."""
    boots: dict[str, str] = field(default_factory=dict)
    """The start of each agent that answers."""

    async def check(self, member: str, address: str, *, authority_id: str, trusted_der: Sequence[bytes]) -> PeerAnswer:
        self.checked.append((member, authority_id))
        return PeerAnswer(self.problems.get(member, ""), self.boots.get(member, ""))


@dataclass
class RunningMembership:
    """The service, and clients of it."""

    directory: Path
    settings: MembershipSettings
    identity: MembershipIdentity
    authorities: FakeArrayAuthorities
    _stack: AsyncExitStack
    peers: FakePeers = field(default_factory=FakePeers)
    running: RunningService = field(init=False)
    context: MembershipContext = field(init=False)
    _clients: dict[str, aio.Client] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    async def client(self, path: str = "operators/admin/ann") -> aio.Client:
        """A client with the identity `path`."""
        if path not in self._clients:
            place = self.directory / f"caller-{len(self._clients)}"
            place.mkdir()
            leaf = self.identity.hierarchies.control.person(path)
            (place / "root.pem").write_bytes(self.identity.hierarchies.control_root.pem)
            (place / "me.pem").write_bytes(leaf.chain_pem)
            (place / "me.key").write_bytes(leaf.key_pem)
            (place / "me.key").chmod(0o600)
            context = Context(
                TRUST_DOMAIN,
                {"ca": ["127.0.0.1:1"], "membership": [self.address]},
                place / "root.pem",
                place / "root.pem",
                place / "me.pem",
                place / "me.key",
            )
            made = aio.Client(context, retry=RetryPolicy(attempts=1))
            self._clients[path] = await self._stack.enter_async_context(made)
        return self._clients[path]

    async def agent(self, name: str, **changed: Any) -> "Agent":
        """Register a server; its agent has not reported yet."""
        agent = Agent(self, name, await self.client(f"members/{name}"))
        array = await agent.client.membership.arrays.create(agent.server, **changed)
        agent.array = array.name
        return agent

    async def until(self, name: str, agents: "Sequence[Agent]", seconds: float = 20.0) -> Operation:
        """Let agents do their part until an operation has ended."""
        operations = (await self.client()).membership.operations
        async with asyncio.timeout(seconds):
            while (found := await operations.get(name)).state is OperationState.RUNNING:
                for agent in agents:
                    await agent.turn()
                await moment()
        for agent in agents:
            await agent.turn()
        return found

    async def quiet(self) -> None:
        """Wait until no operation runs."""
        operations = (await self.client()).membership.operations
        async with asyncio.timeout(20):
            async for one in operations.list():
                async for _ in operations.watch(one.name):  # ends with the operation
                    pass

    async def array_of(self, *names: str) -> "list[Agent]":
        """Servers in one array, the first of them its primary, whose agents see that."""
        first, *others = [await self.agent(name) for name in names]
        agents = [first]
        await first.turn()
        for other in others:
            await other.turn()
            primary = await first.client.membership.arrays.get(first.array)
            admin = (await self.client()).membership
            begun = await admin.arrays.join(first.name, other.name, accepted_sha256=primary.authority_sha256)
            agents.append(other)
            assert (await self.until(begun.name, agents)).state is OperationState.SUCCEEDED
            other.array = first.array
            for agent in agents:
                await agent.turn()
        return agents

    async def write(self, work: Any) -> Any:
        return await self.context.store.write(work)

    async def read(self, work: Any) -> Any:
        return await self.context.store.read(work)


@dataclass
class Agent:
    """What an agent does, as far as the service sees it."""

    service: RunningMembership
    name: str
    client: aio.Client
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    release: str = RELEASE
    array: str = ""
    certificate: str = ""
    authority: str = ""
    epoch: Epoch | None = None
    skew: timedelta = timedelta()
    says: dict[str, Any] = field(default_factory=dict)
    """What its reports say in place of the truth."""
    told: Instruction | None = None

    @property
    def server(self) -> Server:
        return Server(self.name, "127.0.0.1:5427", self.release, (f"www.{self.name}",))

    @property
    def resource(self) -> str:
        return f"members/{self.name}"

    async def report(self) -> Instruction:
        """Report what is so."""
        self.service.peers.boots[self.name] = self.boot_id
        view = None
        if self.epoch is not None:
            with suppress(AccessDenied):  # it has left the array, and does not know yet
                view = await self._view(self.epoch)
        status = Status(
            boot_id=self.boot_id,
            time=datetime.now(UTC) + self.skew,
            release=self.release,
            address="127.0.0.1:5427",
            external_names=(f"www.{self.name}",),
            view=view,
            certificate=self.certificate,
            authority=self.authority,
        )
        self.told = await self.client.membership.members.report(self.name, replace(status, **self.says))
        return self.told

    async def _view(self, epoch: Epoch) -> ArrayView:
        async with aclosing(self.client.membership.members.watch(array=epoch.array)) as watch:
            update = await anext(watch)
        present = [one for one in update.members if one.state not in ("quarantined", "detached")]
        members = [one for one in present if one.array == epoch.array]
        primary = next((one.name for one in members if one.primary), "")
        return ArrayView(epoch.array, primary, tuple(one.name for one in members), epoch.epoch, epoch.digest)

    async def load(self) -> Epoch:
        """Load the newest epoch and acknowledge it."""
        assert self.told is not None, "it has reported"
        membership = self.client.membership
        self.epoch = await membership.bundles.get(self.told.array)
        with suppress(ArrayNotFound):  # it has left the array since it reported; its next report says so
            await membership.rotations.acknowledge(
                self.name,
                self.epoch.array,
                boot_id=self.boot_id,
                epoch=self.epoch.epoch,
                digest=self.epoch.digest,
            )
        return self.epoch

    async def renew(self) -> None:
        """Have a new certificate, and load it."""
        key = keys.make_key()
        csr = keys.make_csr(key, [Name.dns(self.name)], common_name=self.name)
        issued = await self.client.membership.members.issue_peer_certificate(self.name, csr)
        self.certificate, self.authority = issued.name, issued.authority

    async def turn(self) -> Instruction:
        """Do all that an agent does once: report, load, acknowledge, renew, report."""
        told = await self.report()
        if not told.peer_security:
            self.epoch = None
            return told
        try:
            if self.epoch is None or (told.array, told.epoch) != (self.epoch.array, self.epoch.epoch):
                await self.load()
            if told.authority != self.authority and told.member.state != "quarantined":
                await self.renew()
        except (AccessDenied, ArrayNotFound):  # it has left the array since its report
            return told
        return await self.report()


def membership_settings(directory: Path, url: str = "sqlite:///membership.db", **roll: Any) -> MembershipSettings:
    return MembershipSettings(
        trust_domain=TRUST_DOMAIN,
        instance="one",
        state_directory=directory / "state",
        database=DatabaseSettings(url=SecretStr(url)),
        listen=ServingSettings(health_port=None),
        roll=RollSettings(**roll),
    )


@asynccontextmanager
async def running_membership(
    directory: Path, settings: MembershipSettings, authorities: FakeArrayAuthorities | None = None
) -> AsyncIterator[RunningMembership]:
    """The service until the block ends."""
    async with AsyncExitStack() as stack:
        service = RunningMembership(
            directory,
            settings,
            MembershipIdentity(Hierarchies.make()),
            authorities or FakeArrayAuthorities(),
            stack,
        )

        @asynccontextmanager
        async def open_identity(*_: Any) -> AsyncIterator[MembershipIdentity]:
            yield service.identity

        def keep(context: MembershipContext) -> FakeArrayAuthorities:
            service.context = context
            return service.authorities

        spec = Membership(keep, lambda _context, _authorities: service.peers).spec()
        migrate_file(settings, SCHEMA)
        service.running = await stack.enter_async_context(run_solo(spec, settings, STORAGE, open_identity))
        yield service


def fresh_url(kind: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database of its own."""
    return database_url(kind, lambda: request.getfixturevalue("postgresql_server"), SCHEMA)


@pytest.fixture(params=["sqlite", "postgresql"])
def membership_url(request: pytest.FixtureRequest) -> str:
    return fresh_url(request.param, request)


@pytest.fixture
async def membership(membership_url: str, tmp_path: Path) -> AsyncIterator[RunningMembership]:
    """The service on each database in turn."""
    async with running_membership(tmp_path, membership_settings(tmp_path, membership_url)) as running:
        yield running
