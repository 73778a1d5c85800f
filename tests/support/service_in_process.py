"""A solo service in the test's event loop: real mutual TLS on loopback, with certificates that the test issues."""

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keyreeve import Context, aio
from keyreeve.caller_values import MemberRecord
from keyreeve.identity import Role, SpiffeId
from keyreeve.values import MemberState
from keyreeve_chassis.guard.peers import OperatorRecord, PeerVerifier, TrustView
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_chassis.processes.solo import RunningService, run_solo
from keyreeve_chassis.schema.revisions import Schema
from keyreeve_chassis.service import ServiceSpec
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from keyreeve_chassis.tls import ServerIdentity
from support.access_matrix import PATHS, operators
from support.migrated import migrated_postgresql, migrated_sqlite
from support.peer_certificates import TRUST_DOMAIN, Hierarchies
from support.postgres import Server
from support.running import KnownRevocations


@dataclass
class IssuedIdentity:
    """An identity that the test issues."""

    service: str
    hierarchies: Hierarchies = field(default_factory=Hierarchies.make)
    revocations: KnownRevocations = field(default_factory=KnownRevocations)
    roll: dict[str, MemberRecord] = field(default_factory=dict)
    """What the membership service says of members, by peer DNS name."""
    people: dict[str, str] = field(default_factory=dict)
    """Unique ids of further operators, by their paths."""

    @property
    def context(self) -> Context:
        raise AssertionError("this service calls no other one")

    @property
    def members(self) -> "IssuedIdentity":
        return self

    def member(self, identity: SpiffeId | str) -> MemberRecord | None:
        return self.roll.get(str(identity).rpartition("/")[2])

    def enroll(self, name: str, array: str, state: MemberState = MemberState.MEMBER, *, primary: bool = False) -> str:
        """Put a member into an array; its path."""
        path = f"members/{name}"
        self.roll[name] = MemberRecord(name, f"spiffe://{TRUST_DOMAIN}/{path}", f"arrays/{array}", state, primary)
        return path

    def server_identity(self) -> ServerIdentity:
        leaf = self.hierarchies.control.service(self.service)
        return ServerIdentity(leaf.chain_pem, leaf.key_pem, self.hierarchies.control_root.pem)

    def trust_view(self) -> TrustView:
        view = TrustView(TRUST_DOMAIN, (self.hierarchies.control.certificate,), 1)
        more = {f"spiffe://{TRUST_DOMAIN}/{path}": OperatorRecord(uid, 0) for path, uid in self.people.items()}
        return replace(view, generation=1 + len(more), operators=operators() | more)

    def jobs(self) -> tuple[()]:
        return ()


@dataclass
class InProcess:
    """A running service, and clients of it by role."""

    identity: IssuedIdentity
    running: RunningService
    directory: Path
    stack: AsyncExitStack

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.running.port}"

    @property
    def verifier(self) -> PeerVerifier:
        return PeerVerifier(self.identity.trust_view, system_clock, self.identity.revocations)

    async def client(self, role: Role = Role.ADMIN, path: str = "") -> aio.Client:
        """A client with a certificate of `role`, or of another identity by its path."""
        leaf = self.identity.hierarchies.control.person(path or PATHS[role])
        files = self.directory / uuid.uuid4().hex
        files.mkdir()
        for name, content in (("me.pem", leaf.chain_pem), ("me.key", leaf.key_pem)):
            (files / name).write_bytes(content)
        for name in ("control.pem", "estate.pem"):
            (files / name).write_bytes(self.identity.hierarchies.control_root.pem)
        context = Context(
            trust_domain=TRUST_DOMAIN,
            endpoints={name: [self.address] for name in ("ca", self.identity.service)},
            bundle=files / "control.pem",
            estate_bundle=files / "estate.pem",
            certificate=files / "me.pem",
            key=files / "me.key",
        )
        return await self.stack.enter_async_context(aio.Client(context))


@asynccontextmanager
async def in_process(
    spec: ServiceSpec[Any, Any],
    storage: Any,
    settings: Any,
    directory: Path,
    *,
    identity: IssuedIdentity | None = None,
    now: Callable[[], int] = system_clock,
) -> AsyncIterator[InProcess]:
    """Run a service until the context is left."""
    given = identity or IssuedIdentity(spec.name)

    @asynccontextmanager
    async def open_identity(*_: Any) -> AsyncIterator[IssuedIdentity]:
        yield given

    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(run_solo(spec, settings, storage, open_identity, now=now))
        clients = await stack.enter_async_context(AsyncExitStack())
        yield InProcess(given, running, directory, clients)


def database_url(kind: str, server: Callable[[], Server], schema: Schema, *, migrated: bool = True) -> str:
    """The URL of a new database: of a file on SQLite (`migrate_file` migrates it), of the test server's on PostgreSQL."""
    if kind == "sqlite":
        return f"sqlite:///{schema.service}.db"
    if migrated:
        return server().url(migrated_postgresql(server(), schema))
    database = f"{schema.service}_{uuid.uuid4().hex}"
    server().execute(f"CREATE DATABASE {database}")
    return server().url(database)


def migrate_file(settings: DatabaseServerSettings, schema: Schema) -> None:
    """Have the service start on a migrated SQLite file where it would have to make one."""
    if settings.sqlite_file is not None and not settings.sqlite_file.exists():
        migrated_sqlite(settings.sqlite_file, schema)
