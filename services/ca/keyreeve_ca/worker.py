"""A worker: one of several processes that share the port, serve the RPCs and sign."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from keyreeve.errors import KeyreeveError, StoreUnavailable
from keyreeve.values import Hierarchy
from keyreeve_ca.app import (
    api_server_of,
    new_worker_id,
    open_keystore,
    service_context,
    services_of,
    store_of,
    trust_root_of,
    worker_ledger_of,
)
from keyreeve_ca.enrollment.listener import EnrollmentListener
from keyreeve_ca.enrollment.pending_tokens import PendingTokens
from keyreeve_ca.enrollment.ports import TOKENS
from keyreeve_ca.enrollment.steps import CoordinatorTokenSteps, DirectTokenSteps
from keyreeve_ca.issuance.context import CaContext
from keyreeve_ca.issuance.serving_certificate import ServingCertificate
from keyreeve_ca.issuance.snapshot import LiveSnapshot
from keyreeve_ca.ledger.ports import ProcessLedger
from keyreeve_ca.operators.first_operator import roots_pem
from keyreeve_ca.revocation.known_revocations import LearningForward, LiveRevocations, TrustViews
from keyreeve_ca.revocation.ports import REVOCATIONS
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.ports import CONFIG, Store
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_ca.trust.service import CallerFeed
from keyreeve_chassis.audit.feeding import SinkGate
from keyreeve_chassis.audit.leader import send_records
from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.audit.trail import Trail
from keyreeve_chassis.changes.over_ipc import CoordinatorChanges
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.database.opening import reading_database, writing_database
from keyreeve_chassis.database.storage import end_chains
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.guard.forwarding import CallForwarder
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.router import Forward, Router
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.processes import ipc
from keyreeve_chassis.processes.lifecycle import run_tasks, say_ready, system_clock, until_told
from keyreeve_chassis.rpc.server import start_server
from keyreeve_chassis.schema import revisions
from keyreeve_chassis.settings.sections import host_port
from keyreeve_chassis.telemetry.certificates import show_serving_certificate
from keyreeve_chassis.telemetry.process import call_telemetry
from keyreeve_chassis.tickets.verification import TicketVerifier
from keyreeve_chassis.tls import LiveServerCredentials, ServerIdentity
from keyreeve_chassis.trust_tables.seals import Seals

log = logging.getLogger(__name__)


async def worker(settings: CaSettings, index: int) -> None:
    """Serve the RPCs until a signal ends it."""
    async with run_worker(settings, index) as serving:
        say_ready()
        await until_told(serving.background, settings.drain_seconds)


@dataclass(frozen=True)
class RunningWorker:
    """A worker that serves."""

    port: int
    health_port: int | None
    enroll_port: int | None
    background: Awaitable[None]
    live: LiveSnapshot
    """What it knows of authorities, profiles and operators."""


@asynccontextmanager
async def run_worker(
    settings: CaSettings, index: int, *, now: Callable[[], int] = system_clock
) -> AsyncIterator[RunningWorker]:
    """Run a worker; leaving the context drains it. `now` is the clock, in seconds since 1970."""
    async with AsyncExitStack() as stack:
        worker_id = new_worker_id(settings, f"worker-{index}")
        keystore = open_keystore(settings)
        topics = Topics(notified=False)
        database, writer, ledger, client = _durable(settings, worker_id, topics, Seals.of(keystore), stack)
        store = store_of(database, writer, now, worker_id, seals=Seals.of(keystore))
        if writer is not None:
            stack.push_async_callback(end_chains, store.close_chains, ledger.close_chain)
        recorder = Recorder(store.append_audit if client is None else partial(send_records, client))
        coordinator = _coordinator(settings, stack)
        gate = SinkGate(coordinator) if settings.audit.sink_required else None
        trail = Trail(recorder, gate=None if gate is None else gate.check)
        base = service_context(settings, store, keystore, ledger, worker_id, topics=topics, now=now)
        await _read_what_is_believed(base)
        # With a connection and a thread of its own: no flood of reads may make what is known of revocations stale.
        revocations = LiveRevocations(_follower(settings, keystore, now, stack), now)
        await revocations.refresh()
        trust = TrustViews(base.live.current())
        await ledger.start()
        stack.push_async_callback(ledger.end)
        jobs = [*ledger.jobs(), base.live.follow(topics.follower(CONFIG)), trust.follow(base.live)]
        jobs += [
            base.trust.run(store),
            CoordinatorChanges(coordinator, topics).follow(),
            revocations.follow(topics.follower(REVOCATIONS)),
        ]
        jobs += [] if gate is None else [gate.follow()]
        background = run_tasks(stack, jobs)
        stack.push_async_callback(base.issuance.close_blocks)
        instance = f"{settings.instance}-{index}"
        own = ServingCertificate(
            base.issuance,
            base.live.current,
            base.live.changed_since,
            instance,
            now,
            show_serving_certificate,
            is_revoked=revocations.is_revoked,
        )
        await own.obtain()
        trust_root = await trust_root_of(store)
        steps = DirectTokenSteps(store, now) if client is None else CoordinatorTokenSteps(client)
        pending = PendingTokens(store, steps)
        run_tasks(stack, [own.keep_fresh()], background)
        feed = CallerFeed(store, revocations, settings.trust_domain, now, own.sign, whole=lambda: not base.trust.found)
        services = services_of(base, trust_root, own, feed)
        forwarder = None if client is None else CallForwarder(client)
        change: Forward = forwarder or Router(services).invoke
        enrollees = None
        if settings.enroll.port is not None:
            enrollees = EnrollmentListener.of(
                base,
                steps,
                trust_root,
                instance,
                revocations.is_revoked,
                change=change,
                reviewer=api_server_of(settings),
            )
            await enrollees.certificate.obtain()
            run_tasks(stack, [enrollees.keep_fresh(), pending.follow(topics.follower(TOKENS))], background)
        verifier = PeerVerifier(trust.current, now, revocations, first_seen=pending.first_seen)
        telemetry = call_telemetry("ca", settings, stack)
        running = await start_server(
            settings.listen,
            Router(
                services,
                LearningForward(change, base.live, trust, revocations),
                None if forwarder is None else forwarder.stream,
            ),
            verifier,
            LiveServerCredentials(partial(_server_identity, own, base.live)),
            telemetry=telemetry,
            trail=trail,
            tickets=TicketVerifier("ca", trust.current, now, revocations),
            shared=settings.coordinator_socket.parent,
        )
        stack.push_async_callback(running.stop, settings.drain_seconds)
        enroll_port = None
        if enrollees is not None:
            ca_address = settings.enroll.ca_address or host_port(settings.listen.host, running.port)
            enroll_port = await stack.enter_async_context(
                enrollees.serving(lambda: {"ca": [ca_address]}, telemetry, trail, running.budget)
            )
        yield RunningWorker(running.port, running.health_port, enroll_port, background, base.live)


async def _read_what_is_believed(base: CaContext) -> None:
    """Read the first snapshot. Raises `StoreUnavailable` when too little of it can be believed to serve with.

    The process manager tries again until root has sealed them anew; the coordinator runs meanwhile.
    """
    await base.live.reload()
    try:
        snapshot = base.live.current()
        snapshot.issuing_authority(snapshot.profile("service"), None)
    except KeyreeveError as missing:
        altered = ", ".join(str(one) for one in base.trust.found[:3])
        raise StoreUnavailable(f"the trust tables were altered ({altered}): {missing.message}") from missing


def _durable(
    settings: CaSettings, worker_id: str, topics: Topics, seals: Seals, stack: AsyncExitStack
) -> tuple[Database, Database | None, ProcessLedger, ipc.Client | None]:
    """Open the databases and the ledger of a worker, with the coordinator where that writes."""
    if settings.sqlite_file is None:
        database = stack.enter_context(writing_database(settings, SCHEMA, announce=topics.announce))
        revisions.check_version(database.engine, SCHEMA)
        return database, database, worker_ledger_of(database, None, worker_id, seals), None
    client = ipc.Client(settings.coordinator_socket)
    database = stack.enter_context(reading_database(settings, SCHEMA))
    stack.push_async_callback(client.close)
    return database, None, worker_ledger_of(database, client, worker_id, seals), client


def _follower(settings: CaSettings, keystore: KeyStore, now: Callable[[], int], stack: AsyncExitStack) -> Store:
    """A store that reads over a connection and in threads of its own."""
    if settings.sqlite_file is None:
        opened = stack.enter_context(writing_database(settings, SCHEMA, threads=1))
    else:
        opened = stack.enter_context(reading_database(settings, SCHEMA))
    return store_of(opened, None, now, seals=Seals.of(keystore))


def _coordinator(settings: CaSettings, stack: AsyncExitStack) -> ipc.Client:
    """Open another connection to the instance's coordinator, for calls that it leaves unanswered for a while."""
    client = ipc.Client(settings.coordinator_socket)
    stack.push_async_callback(client.close)
    return client


def _server_identity(own: ServingCertificate, live: LiveSnapshot) -> ServerIdentity:
    assert own.current is not None, "it was issued before the server starts"
    return ServerIdentity(own.current.chain_pem, own.current.key_pem, roots_pem(live.current(), Hierarchy.CONTROL))
