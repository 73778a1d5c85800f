"""A service's database in one process: opened, migrated, bound to its state directory, audited."""

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from keyreeve.audit.v1 import audit_service_pb2
from keyreeve.errors import StoreUnavailable
from keyreeve.identity import Caller, SpiffeId
from keyreeve.operations.v1 import operation_service_pb2
from keyreeve_chassis.audit import servicer as audit_servicer
from keyreeve_chassis.audit.feeding import SinkFeeding
from keyreeve_chassis.audit.leader import Leader
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.changes.over_postgresql import PostgresqlChanges
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.database.binding import BindingFile, BoundState, DatabaseBinding, Recalled
from keyreeve_chassis.database.engine import sqlite_release
from keyreeve_chassis.database.opening import (
    direct_engine,
    first_start_lock,
    look_at_database,
    look_at_sqlite,
    place_of,
    reading_database,
    writing_database,
)
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.database.service_transaction import ServiceState, ServiceTransaction, lock_service
from keyreeve_chassis.database.store import MakeTransaction, SqlStore
from keyreeve_chassis.database.transactions import Database, register_failpoints, store_errors
from keyreeve_chassis.database.writers import (
    LEASE_SECONDS,
    LeaseKeeping,
    deregister_writer,
    extend_writer,
    register_writer,
)
from keyreeve_chassis.guard.paging import Pages, PageTokens
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.keys.opening import open_key_store
from keyreeve_chassis.keys.ports import KeyStore, make_check_value, sealed_from_start, verify_check_value
from keyreeve_chassis.leases.leadership import Leadership
from keyreeve_chassis.local_admin.client import RECOVER_TRUST_TABLES
from keyreeve_chassis.local_admin.database_findings import key_finding, trust_table_finding
from keyreeve_chassis.local_admin.findings import Finding, look_at_files
from keyreeve_chassis.local_admin.socket import RecordedHandlers
from keyreeve_chassis.local_admin.transport import look_at_transport
from keyreeve_chassis.operations import servicer as operation_servicer
from keyreeve_chassis.operations.ports import OPERATIONS
from keyreeve_chassis.operations.runner import OperationRunner
from keyreeve_chassis.operations.steps import Step
from keyreeve_chassis.operations.values import show_operations
from keyreeve_chassis.processes.ipc import Handler
from keyreeve_chassis.processes.lifecycle import every
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.schema import revisions
from keyreeve_chassis.schema.removing import remove_database
from keyreeve_chassis.schema.revisions import Schema
from keyreeve_chassis.service import OpenStorage, ServiceContext
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from keyreeve_chassis.trust_tables.recovery import recover_trust_tables
from keyreeve_chassis.trust_tables.sealing import seal_at_start
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.watching import TrustWatch

S = TypeVar("S", bound=DatabaseServerSettings)
TxT = TypeVar("TxT", bound=ServiceTransaction)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatabaseContext(ServiceContext[S], Generic[S, TxT]):
    """What handlers and jobs of a process with a database use."""

    store: SqlStore[TxT]
    mutations: Mutations[TxT]
    pages: Pages
    keystore: KeyStore
    process: str
    """Names this process; used once."""
    topics: Topics
    """Tells followers of the database when to read."""
    trust: TrustWatch | None
    """What is known of altered trust tables; None when the service has no such tables."""

    def leadership(self, name: str) -> Leadership[TxT]:
        """For work that one process of the service does at a time."""
        return Leadership(self.store, name, self.process, alone=self.settings.sqlite_file is not None)

    def operation_runner(self, steps: Mapping[str, Step[TxT]]) -> OperationRunner[TxT]:
        """Carries out the service's operations; its `run` is a job."""
        return OperationRunner(self.leadership("operations"), steps, self.now, self.topics.follower(OPERATIONS))


@dataclass(frozen=True)
class DatabaseStorage(Generic[S, TxT]):
    """A service's database: its schema and its transaction type."""

    schema: Schema
    transaction: type[TxT]

    def __post_init__(self) -> None:
        register_failpoints(self.schema.service)  # before a process arms them, which it does before it opens anything

    def migrate(self, settings: S, *, expand: bool = False) -> None:
        """See `Migrations.migrate`."""
        with writing_database(settings, self.schema) as database:
            migrate_database(settings, self.schema, database, expand=expand)

    def remove(self, settings: S) -> list[str]:
        """See `Migrations.remove`."""
        binding = DatabaseBinding(BindingFile(settings.state_directory / "database.json"), place_of(settings))

        def bound_state(database: Database) -> BoundState | None:
            state = database.read_here(lambda c: self._begin(c, now=0, writable=False).service_state())
            return None if state is None else state.bound

        return remove_database(settings, self.schema, binding, bound_state)

    def look(self, settings: S, inside: Callable[[Database], Iterator[Finding]] = lambda _: iter(())) -> list[Finding]:
        """Check the database and the private files without the running service; nothing is changed.

        `inside` is what the service itself looks at in its database.
        """
        binding = DatabaseBinding(BindingFile(settings.state_directory / "database.json"), place_of(settings))
        private = ((settings.state_directory, 0o700), (settings.kek_file, 0o600))
        return look_at_service(settings, self.schema, binding, private, partial(self._look_inside, settings, inside))

    def _look_inside(
        self, settings: S, further: Callable[[Database], Iterator[Finding]], database: Database
    ) -> Iterator[Finding]:
        """Check the key-encryption key, the trust tables, and what the service itself looks at."""
        begin = partial(self._begin, now=0, writable=False)
        state = database.read_here(lambda c: begin(c).service_state())
        if state is not None:
            open_keystore = partial(self._open_keystore, settings, first_start=False)
            key = key_finding(open_keystore, state.key_check)
            yield key
            if key.ok and self.transaction.trust_tables is not None:
                seals = Seals.of(open_keystore())
                found = database.read_here(lambda c: begin(c, seals=seals).trust.verify())
                yield trust_table_finding(found, self.schema.service)
        yield from further(database)

    def _open_keystore(self, settings: S, *, first_start: bool) -> KeyStore:
        label = f"keyreeve-{self.schema.service}"
        return open_key_store(settings.kek_file, label, mounted=settings.keys.mounted, first_start=first_start)

    @asynccontextmanager
    async def open(self, settings: S, *, now: Callable[[], int], process: str) -> AsyncIterator[OpenStorage[S]]:
        """Open it for the process that writes. Raises `StartRefused`, `WrongDatabase`, `StoreUnavailable`."""
        binding = DatabaseBinding(BindingFile(settings.state_directory / "database.json"), place_of(settings))
        recalled = binding.recall()
        async with AsyncExitStack() as stack:
            topics = Topics(notified=settings.sqlite_file is not None)
            database = await own_database(settings, self.schema, partial(binding.check, None, recalled), topics, stack)
            reader = database
            if database.is_sqlite:
                reader = stack.enter_context(reading_database(settings, self.schema))
            audit = SqlAuditLog(self.transaction.tables.audit, reader, database)
            key = zlib.crc32(f"keyreeve {self.schema.service} writes".encode())
            make_store = partial(
                SqlStore[TxT],
                audit,
                lock=lambda connection: lock_service(connection, key),
                process=process,
                now=now,
            )
            jobs = []
            if not database.is_sqlite:
                jobs = [
                    await self._stay_alive(database, process, stack),
                    *postgresql_jobs(settings, database, audit, topics),
                ]
            await audit.abandon_orphans()
            keystore = await self._first_start(settings, database, make_store, (binding, recalled), now)
            store = make_store(partial(self._begin, seals=Seals.of(keystore)))
            watch = await self._watch(store)
            leader = Leader.of(audit, await audit.signer(keystore), now, settings)
            feeding = SinkFeeding.of(audit, settings, topics)
            stack.push_async_callback(end_chains, store.close_chains, leader.sign)
            mutations, pages = Mutations(store), Pages(PageTokens(keystore.derive("page tokens")))
            jobs += [] if watch is None else [watch.run(store)]
            yield OpenStorage(
                DatabaseContext(settings, now, store, mutations, pages, keystore, process, topics, watch),
                store.append_audit,
                database_services(audit, store, pages, topics, watch),
                [*jobs, *leader.jobs(), feeding.follow(), show_operations(store)],
                feeding.check,
                {} if watch is None else self._local_handlers(settings, store, watch),
            )

    def _begin(self, connection: Connection, *, now: int, writable: bool, seals: Seals | None = None) -> TxT:
        return self.transaction(connection, now=now, writable=writable, seals=seals)

    async def _watch(self, store: SqlStore[TxT]) -> TrustWatch | None:
        """Read the trust tables for the first time; None when the service has none."""
        if self.transaction.trust_tables is None:
            return None
        watch = TrustWatch(self.transaction.trust_tables.listed)
        await store.read(watch.look_at_all)
        return watch

    def _local_handlers(self, settings: S, store: SqlStore[TxT], watch: TrustWatch) -> dict[str, Handler]:
        identity = SpiffeId(settings.trust_domain, ("services", self.schema.service, settings.instance))
        assert identity.role is not None, "it is a service's"
        recorded = RecordedHandlers(Trail(Recorder(store.append_audit)), Caller(identity, identity.role, serial=0))
        return {
            RECOVER_TRUST_TABLES: recorded.handler(RECOVER_TRUST_TABLES, partial(recover_trust_tables, store, watch))
        }

    async def _first_start(
        self,
        settings: S,
        database: Database,
        make_store: Callable[[MakeTransaction[TxT]], SqlStore[TxT]],
        bound: tuple[DatabaseBinding, Recalled],
        now: Callable[[], int],
    ) -> KeyStore:
        """Initialize the database, or check that it is the same one; return the service's key store."""
        binding, recalled = bound
        with direct_engine(settings, self.schema, database) as direct, first_start_lock(direct, self.schema):
            has_trust_tables = self.transaction.trust_tables is not None
            state = await make_store(self._begin).read(lambda tx: tx.service_state())
            binding.check(None if state is None else state.bound, recalled)
            keystore = self._open_keystore(settings, first_start=state is None)
            store = make_store(partial(self._begin, seals=Seals.of(keystore)))
            if state is None:
                check = make_check_value(keystore, sealed_tables=has_trust_tables)
                state = created = ServiceState(settings.trust_domain, 1, check, now())

                def create(tx: TxT) -> None:
                    tx.create_service_state(created)
                    if has_trust_tables:
                        tx.trust.seal()

                await store.write(create)
            verify_check_value(keystore, state.key_check)
            if has_trust_tables:
                ever = binding.ever_sealed(recalled) or sealed_from_start(keystore, state.key_check)
                await store.write(lambda tx: seal_at_start(tx.trust, ever_sealed=ever))
        if state.trust_domain != settings.trust_domain:
            raise StartRefused(
                f"this database belongs to the trust domain {state.trust_domain}, and the settings say "
                f"{settings.trust_domain}; set trust_domain back, or use another database"
            )
        binding.remember(state.bound, sealed=has_trust_tables)
        return keystore

    async def _stay_alive(self, database: Database, process: str, stack: AsyncExitStack) -> Coroutine[Any, Any, None]:
        writers = self.transaction.tables.writers
        await database.write(lambda c: register_writer(c, writers, process))
        stack.push_async_callback(database.write, lambda c: deregister_writer(c, writers, process))
        keeping = LeaseKeeping(process, lambda: database.write(lambda c: extend_writer(c, writers, process)))
        return every(LEASE_SECONDS / 4, keeping)


def migrate_database(
    settings: DatabaseServerSettings, schema: Schema, database: Database, *, expand: bool = False
) -> None:
    """Migrate an open database to this release's schema; see `Migrations.migrate`."""
    from keyreeve_chassis.schema import migrating  # Alembic takes 11 MiB, and is rarely needed

    with direct_engine(settings, schema, database) as direct:
        migrating.upgrade(direct, schema, expand=expand)


async def own_database(
    settings: DatabaseServerSettings,
    schema: Schema,
    check_empty: Callable[[], None],
    topics: Topics,
    stack: AsyncExitStack,
    *,
    fresh_plans: bool = False,
) -> Database:
    """Open the database for writing, at this release's schema.

    `check_empty` raises instead of a database being created where the state directory belongs to another one.
    """
    if settings.sqlite_file is not None and not settings.sqlite_file.exists():
        check_empty()
    opened = writing_database(settings, schema, fresh_plans=fresh_plans, announce=topics.announce)
    database = stack.enter_context(opened)
    with store_errors():
        revision = revisions.current_revision(database.engine, schema)
    if revision is None:
        check_empty()
    if settings.database.migrate == "auto" and (revision is None or revision < schema.newest):
        await asyncio.to_thread(migrate_database, settings, schema, database)
    revisions.check_version(database.engine, schema)
    return database


def postgresql_jobs(
    settings: DatabaseServerSettings, database: Database, audit: SqlAuditLog, topics: Topics
) -> list[Coroutine[Any, Any, None]]:
    """What one process of each instance does on PostgreSQL for all."""
    return [
        every(LEASE_SECONDS, audit.abandon_orphans),
        PostgresqlChanges(topics, database, settings.direct_url).follow(),
    ]


def database_services(
    audit: SqlAuditLog,
    store: Store[Any],
    pages: Pages,
    topics: Topics,
    watch: TrustWatch | None,
) -> list[ServedService]:
    """What every service with a database serves: its audit log and its operations."""
    mutations = Mutations(store)
    altered = None if watch is None else partial(watch.examine, store)
    return [
        ServedService(
            audit_service_pb2.DESCRIPTOR.services_by_name["AuditService"],
            audit_servicer.AuditServicer(audit, mutations, pages, altered),
            audit_servicer.ACCESS,
        ),
        ServedService(
            operation_service_pb2.DESCRIPTOR.services_by_name["OperationService"],
            operation_servicer.OperationServicer(store, mutations, pages, partial(topics.follower, OPERATIONS)),
            operation_servicer.ACCESS,
        ),
    ]


def look_at_service(
    settings: DatabaseServerSettings,
    schema: Schema,
    binding: DatabaseBinding,
    private: Iterable[tuple[Path, int]],
    inside: Callable[[Database], Iterator[Finding]],
) -> list[Finding]:
    """Check the private files (and their modes), the libraries, and the database; nothing is changed."""
    return [
        *look_at_files(private, mounted=settings.keys.mounted),
        *look_at_transport(settings.listen.connections),
        *look_at_sqlite(settings, sqlite_release()),
        *look_at_database(settings, schema, binding, inside),
    ]


async def end_chains(*steps: Callable[[], Awaitable[object]]) -> None:
    """End a process's audit chains, and where it leads sign a last checkpoint."""
    try:
        for step in steps:
            await step()
    except StoreUnavailable as unavailable:
        log.warning("the audit chains could not be closed: %s", unavailable)
