"""The coordinator: one process per instance with the local admin socket and the background work.

On SQLite it also holds the only writing connection.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from keyreeve_ca.app import (
    authorities_of,
    binding_of,
    bundle_jobs,
    coordinator_ledger_of,
    halt_switch_of,
    linter_of,
    look,
    new_worker_id,
    open_keystore,
    operation_runner_of,
    service_context,
    services_of,
    store_of,
    tokens_of,
    trust_root_of,
)
from keyreeve_ca.authorities import trust_metadata
from keyreeve_ca.authorities.bootstrap import Bootstrap, FirstTrustMetadata
from keyreeve_ca.authorities.recovery import Recovery
from keyreeve_ca.certificates.lint_gate import Linter
from keyreeve_ca.enrollment import steps as enrollment_steps
from keyreeve_ca.http_endpoints import PlainHttp, serve_plain_http
from keyreeve_ca.issuance.context import CaContext
from keyreeve_ca.issuance.sampling import Sampling
from keyreeve_ca.issuance.service import Issuance
from keyreeve_ca.issuance.serving_certificate import ServingCertificate
from keyreeve_ca.issuance.snapshot import SNAPSHOT
from keyreeve_ca.ledger.ports import BLOCKS, CoordinatorLedger
from keyreeve_ca.local_socket import LocalSocket
from keyreeve_ca.metrics import CERTIFICATES_PURGED, LINT_FINDINGS, show_snapshot
from keyreeve_ca.ocsp.responder import OcspResponder
from keyreeve_ca.operators.first_operator import FirstOperator
from keyreeve_ca.operators.service import Operators
from keyreeve_ca.revocation.crl_publisher import CrlPublisher
from keyreeve_ca.revocation.ports import REVOCATIONS
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.ports import CONFIG, ControlPlaneState
from keyreeve_ca.store.retention import PASS_SECONDS, Retention
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.audit.feeding import SINK_PROBLEMS, SinkFeeding
from keyreeve_chassis.audit.leader import Leader
from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.changes.over_ipc import CHANGES, ChangesHandler
from keyreeve_chassis.changes.topics import POLL_SECONDS, Topics
from keyreeve_chassis.database.opening import direct_engine, first_start_lock, reading_database, writing_database
from keyreeve_chassis.database.storage import end_chains, migrate_database, own_database, postgresql_jobs
from keyreeve_chassis.guard.forwarding import FORWARD, ForwardedCalls, ForwardedStreams
from keyreeve_chassis.guard.router import Router
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.keys.sealed import create_kek_file
from keyreeve_chassis.local_admin.socket import serve_local_admin
from keyreeve_chassis.operations.values import show_operations
from keyreeve_chassis.plain_http.metrics_page import serve_metrics
from keyreeve_chassis.processes import ipc
from keyreeve_chassis.processes.lifecycle import (
    every,
    private_directory,
    run_tasks,
    say_ready,
    system_clock,
    until_told,
)
from keyreeve_chassis.trust_tables.seals import Seals

log = logging.getLogger(__name__)


def migrate(settings: CaSettings, *, expand: bool = False) -> None:
    """Migrate the database to this release's schema; see `Migrations.migrate`."""
    private_directory(settings.state_directory)
    with writing_database(settings, SCHEMA) as database:
        migrate_database(settings, SCHEMA, database, expand=expand)


async def coordinator(settings: CaSettings) -> None:
    """Run the coordinator until a signal ends it."""
    async with run_coordinator(settings) as coordinator:
        say_ready()
        await until_told(coordinator.background, settings.drain_seconds)


@dataclass(frozen=True)
class RunningCoordinator:
    """A running coordinator."""

    issuance: Issuance
    background: Awaitable[None]
    """Resolves only by failing: when a background task has."""
    http_port: int | None
    """Port of the plain-HTTP listener, when there is one."""


@asynccontextmanager
async def run_coordinator(
    settings: CaSettings, *, now: Callable[[], int] = system_clock
) -> AsyncIterator[RunningCoordinator]:
    """Run a coordinator; leaving the context ends it. `now` is the clock, in seconds since 1970."""
    private_directory(settings.state_directory)
    private_directory(settings.run_directory)
    recalled = (binding := binding_of(settings)).recall()
    async with AsyncExitStack() as stack:
        topics = Topics(notified=settings.sqlite_file is not None)
        database = await own_database(
            settings, SCHEMA, partial(binding.check, None, recalled), topics, stack, fresh_plans=True
        )
        reader = database if settings.sqlite_file is None else stack.enter_context(reading_database(settings, SCHEMA))
        worker_id = new_worker_id(settings, "coordinator")
        control_plane = await store_of(reader, None, now).read(lambda tx: tx.control_plane())
        binding.check(None if control_plane is None else control_plane.bound, recalled)
        keystore = _first_keystore(settings, control_plane)
        store = store_of(reader, database, now, worker_id, seals=Seals.of(keystore))
        audit_log = store.audit_log()
        if settings.sqlite_file is not None:
            await audit_log.abandon_orphans()
        ledger = coordinator_ledger_of(settings, database, worker_id, Seals.of(keystore), now)
        base = service_context(settings, store, keystore, ledger, worker_id, topics=topics, now=now)
        linter = linter_of(settings)
        with direct_engine(settings, SCHEMA, database) as direct, first_start_lock(direct, SCHEMA):
            await Bootstrap(
                store,
                keystore,
                authorities_of(base, linter),
                partial(_first_trust_metadata, settings, keystore, now),
                now,
                settings.trust_domain,
                binding,
                allowed=settings.bootstrap.allowed,
            ).run()
        await base.live.reload()
        leader = Leader.of(audit_log, await audit_log.signer(keystore), now, settings)
        stack.push_async_callback(end_chains, store.close_chains, ledger.close_chain, leader.sign)
        feeding = SinkFeeding.of(audit_log, settings, topics)
        background = await _background(base, ledger, leader, feeding, stack)
        trust_root = await trust_root_of(store)
        router = Router(services_of(base, trust_root, _ticket_signer(base)))
        first_operator = FirstOperator(
            base.issuance,
            settings.instance,
            trust_root,
            Operators(settings.trust_domain, now),
            partial(asyncio.sleep, 2 * POLL_SECONDS),
        )
        trail = Trail(Recorder(store.append_audit))
        stack.push_async_callback(trail.close)
        handlers = LocalSocket(
            base,
            trail,
            first_operator,
            Recovery(authorities_of(base, linter), now),
            tokens_of(base),
            halt_switch_of(base),
        ).table()
        changes = ChangesHandler(topics)
        handlers |= {
            CHANGES: changes,
            "check": lambda _payload, _connection: _check(settings),
            SINK_PROBLEMS: feeding.answer_problems,
        }
        handlers |= ledger.handlers()
        disconnected = [ledger.disconnected]
        if settings.sqlite_file is not None:
            streams = ForwardedStreams(router, trail)
            handlers |= {FORWARD: ForwardedCalls(router, trail), **streams.handlers()}
            disconnected.append(streams.disconnected)
            handlers["audit"] = partial(_record, store.append_audit)
            handlers |= enrollment_steps.handlers(enrollment_steps.DirectTokenSteps(store, now))
        local = await serve_local_admin(settings.coordinator_socket, handlers, partial(_disconnected, disconnected))
        stack.push_async_callback(local.close)
        stack.push_async_callback(changes.close)
        http_port = await _serve_http(base, linter, stack)
        if settings.metrics.port is not None:
            _, stop_metrics = await serve_metrics(settings.metrics.host, settings.metrics.port)
            stack.push_async_callback(stop_metrics)
        yield RunningCoordinator(base.issuance, background, http_port)


def _ticket_signer(base: CaContext) -> ServingCertificate:
    """What signs the tickets of the sessions that this process stores, on SQLite; it gets its certificate on first use."""
    instance = f"{base.settings.instance}-coordinator"
    return ServingCertificate(base.issuance, base.live.current, base.live.changed_since, instance, base.now)


async def _serve_http(base: CaContext, linter: Linter, stack: AsyncExitStack) -> int | None:
    """The plain-HTTP listener, where there is one; its port."""
    settings = base.settings.http
    if settings.port is None:
        return None
    current = base.live.current
    topics = base.topics
    ocsp = OcspResponder(
        base.store,
        base.keystore,
        current,
        linter,
        base.url,
        base.now,
        changes=lambda: topics.version((REVOCATIONS, BLOCKS, CONFIG)) if topics.notified else None,
    )
    port, stop = await serve_plain_http(PlainHttp(base.store, current, ocsp, base.now), settings)
    stack.push_async_callback(stop)
    return port


async def _disconnected(
    handlers: Sequence[Callable[[ipc.Connection], Awaitable[None]]], connection: ipc.Connection
) -> None:
    for handler in handlers:
        await handler(connection)


async def _check(settings: CaSettings) -> list[dict[str, Any]]:
    return [finding.as_dict() for finding in await asyncio.to_thread(look, settings)]


async def _record(
    append: Callable[[Sequence[bytes]], Awaitable[None]], payload: Sequence[bytes], _connection: ipc.Connection
) -> None:
    await append(payload)


def _first_keystore(settings: CaSettings, control_plane: ControlPlaneState | None) -> KeyStore:
    """Open the key store.

    The key-encryption key is created only when no control plane exists that could need another one.
    """
    missing = not settings.kek_file.exists() and not settings.keys.mounted
    if missing and control_plane is None:
        create_kek_file(settings.kek_file)
        log.warning("made the key-encryption key %s: keep a copy away from the database's backups", settings.kek_file)
    return open_keystore(settings)


def _first_trust_metadata(settings: CaSettings, keystore: KeyStore, now: Callable[[], int]) -> FirstTrustMetadata:
    return trust_metadata.first(settings.recovery_key_file, keystore, now(), mounted=settings.keys.mounted)


async def _follow_snapshots(base: CaContext) -> None:
    """Tell those who look at the snapshot, rather than at the database, that there is a new one."""
    while True:
        snapshot = base.live.current()
        show_snapshot(snapshot)
        base.topics.bump([SNAPSHOT])
        await base.live.changed_since(snapshot.config_version)


async def _background(
    base: CaContext,
    ledger: CoordinatorLedger,
    leader: Leader,
    feeding: SinkFeeding,
    stack: AsyncExitStack,
) -> Awaitable[None]:
    lint, topics = base.settings.lint, base.topics
    # Awaited before there is any job: one that is made and never run would be complained about at the end.
    await ledger.start()
    stack.push_async_callback(ledger.end)
    await ledger.prepare()
    kept = base.settings.retention
    retention = Retention(ledger, base.store, kept.expired_days, kept.session_days, base.now, CERTIFICATES_PURGED.inc)
    jobs = [
        base.live.follow(topics.follower(CONFIG)),
        base.trust.run(base.store),
        CrlPublisher(base.store, base.keystore, base.live.current, base.url, base.now).run(
            topics.follower(REVOCATIONS, BLOCKS, SNAPSHOT)
        ),
        operation_runner_of(base).run(),
        show_operations(base.store),
        Sampling(
            base.store,
            linter_of(base.settings),
            lint.sample_rate,
            lint.halt_profile,
            lambda profile: LINT_FINDINGS.labels(profile).inc(),
        ).run(),
        every(PASS_SECONDS, retention.run),
        every(60, lambda: base.store.write(lambda tx: tx.tokens.tidy(base.now()))),
        _follow_snapshots(base),
        *bundle_jobs(base),
        *leader.jobs(),
        feeding.follow(),
        *ledger.jobs(),
        *ledger.upkeep(),
    ]
    if base.settings.sqlite_file is None:
        database = leader.log.writer
        assert database is not None, "the coordinator writes"
        jobs += postgresql_jobs(base.settings, database, leader.log, topics)
    background = run_tasks(stack, jobs)
    stack.push_async_callback(base.issuance.close_blocks)
    return background
