"""The composition root: what every process of the service is built from.

`coordinator.py` and `worker.py` belong to it: what each of the two kinds of processes has beside it. On SQLite the coordinator
owns the one writing connection; workers read the file and hand every durable step to it. On PostgreSQL each worker commits by
itself, and the coordinator has the local socket and the background work.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from keyreeve.ca.v1 import (
    authority_service_pb2,
    certificate_service_pb2,
    enrollment_service_pb2,
    issuance_service_pb2,
    operator_service_pb2,
    operator_session_service_pb2,
    profile_service_pb2,
    trust_service_pb2,
)
from keyreeve_ca.authorities import servicer as authority_servicer
from keyreeve_ca.authorities.service import Authorities
from keyreeve_ca.blocked_keys.service import KeyBlocking
from keyreeve_ca.certificates.lint_gate import Linter
from keyreeve_ca.certificates.linter import PkilintLinter
from keyreeve_ca.enrollment import token_servicer
from keyreeve_ca.enrollment.tokens import EnrollmentTokens
from keyreeve_ca.halt import servicer as issuance_servicer
from keyreeve_ca.halt.service import HaltSwitch
from keyreeve_ca.issuance import servicer as certificate_servicer
from keyreeve_ca.issuance.batching import Batching
from keyreeve_ca.issuance.context import CaContext
from keyreeve_ca.issuance.renewal import Nonces, Renewal
from keyreeve_ca.issuance.service import Issuance
from keyreeve_ca.issuance.snapshot import LiveSnapshot, load_snapshot
from keyreeve_ca.ledger.ports import CoordinatorLedger, Ledger, ProcessLedger
from keyreeve_ca.ledger.postgresql import PostgresqlLedger
from keyreeve_ca.ledger.sqlite import SqliteLedger
from keyreeve_ca.ledger.wire import RemoteLedger
from keyreeve_ca.operators import servicer as operator_servicer
from keyreeve_ca.operators.dual_control import refuse_unknown_person
from keyreeve_ca.operators.ports import Actor
from keyreeve_ca.operators.ssh_keys import SshKeys
from keyreeve_ca.profiles import servicer as profile_servicer
from keyreeve_ca.profiles.builtin import BUILTIN_NAMES
from keyreeve_ca.profiles.document import profile_from_canonical
from keyreeve_ca.profiles.service import Profiles
from keyreeve_ca.revocation import bulk
from keyreeve_ca.revocation.bulk import BulkRevocation
from keyreeve_ca.revocation.ports import REVOCATIONS
from keyreeve_ca.revocation.service import Revoking
from keyreeve_ca.revocation.watching import RevocationWatches
from keyreeve_ca.service_accounts.api_server import ApiServer
from keyreeve_ca.service_accounts.bundle_publisher import BundlePublisher
from keyreeve_ca.sessions import servicer as session_servicer
from keyreeve_ca.sessions.holders import CertificateHolders
from keyreeve_ca.sessions.service import Sessions
from keyreeve_ca.sessions.tickets import Signer, Tickets
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.findings import control_plane_findings
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_ca.store.sql import CaStore, store_on
from keyreeve_ca.store.trust_tables import TRUST_TABLES
from keyreeve_ca.trust import servicer as trust_servicer
from keyreeve_ca.trust.service import CallerFeed
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.database.binding import BindingFile, BindingMemory, BoundState, DatabaseBinding
from keyreeve_chassis.database.opening import place_of
from keyreeve_chassis.database.storage import database_services, look_at_service
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.guard.paging import Pages, PageTokens
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.keys.sealed import FailpointKeyStore, SealedKeyStore, read_kek_file, read_kek_mount
from keyreeve_chassis.kubernetes.api_server import ApiAccess, BlockingApi
from keyreeve_chassis.kubernetes.binding_secret import BindingSecret
from keyreeve_chassis.leases.leadership import Leadership
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.operations.ports import OPERATIONS
from keyreeve_chassis.operations.runner import OperationRunner
from keyreeve_chassis.processes import failpoints, ipc
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.schema.removing import remove_database
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.watching import TrustWatch

KEY_LABEL = "keyreeve-ca"
"""Separates what this service seals and derives from what others do; stored bytes depend on it."""
_BEFORE_SIGNATURE = failpoints.register(
    "ca.sign.before", "The serial number is on disk, and no signature with it exists."
)
_AFTER_SIGNATURE = failpoints.register(
    "ca.sign.after", "The signature exists in this process, and nothing of it is stored."
)


def service_context(
    settings: CaSettings,
    store: CaStore,
    keystore: KeyStore,
    ledger: Ledger,
    worker_id: str,
    *,
    topics: Topics,
    now: Callable[[], int] = system_clock,
) -> CaContext:
    blocked = _blocked_keys(settings.keys.blocked_file)
    watch = TrustWatch(TRUST_TABLES.listed)
    live = LiveSnapshot(
        store,
        lambda tx, before: load_snapshot(
            tx, keystore, url=settings.http_url, blocked=blocked, watch=watch, before=before
        ),
    )
    issuance = Issuance(
        live.current,
        live.reload,
        watch,
        store,
        ledger,
        keystore,
        worker_id,
        now,
        batching=Batching(time.monotonic, settings.signing.max_batch_delay_ms / 1000),
    )
    return CaContext(settings, store, keystore, live, issuance, now, store.audit_log(), watch, topics)


def _blocked_keys(file: Path | None) -> frozenset[bytes]:
    if file is None:
        return frozenset()
    try:
        digests = frozenset(bytes.fromhex(line) for line in file.read_text().split("\n") if line.strip())
    except (OSError, ValueError) as wrong:
        raise StartRefused(f"the list of blocked keys {file} cannot be read: {wrong}") from None
    if any(len(digest) != hashlib.sha256().digest_size for digest in digests):
        raise StartRefused(f"the list of blocked keys {file} holds something that is no SHA-256 in hex")
    return digests


def open_keystore(settings: CaSettings) -> KeyStore:
    read = read_kek_mount if settings.keys.mounted else read_kek_file
    return FailpointKeyStore(SealedKeyStore(read(settings.kek_file), KEY_LABEL), _BEFORE_SIGNATURE, _AFTER_SIGNATURE)


def linter_of(settings: CaSettings) -> Linter:
    """What certificates and profiles are linted with."""
    return PkilintLinter(settings.trust_domain)


def coordinator_ledger_of(
    settings: CaSettings, database: Database, worker_id: str, seals: Seals, now: Callable[[], int]
) -> CoordinatorLedger:
    """The ledger of the coordinator, on its database."""
    if settings.sqlite_file is None:
        return PostgresqlLedger(database, worker_id, seals=seals)
    return SqliteLedger(database, seals=seals, now=now, writer=worker_id)


def worker_ledger_of(database: Database, coordinator: ipc.Client | None, worker_id: str, seals: Seals) -> ProcessLedger:
    """The ledger of a worker: by itself on PostgreSQL, through the coordinator on SQLite."""
    return PostgresqlLedger(database, worker_id, seals=seals) if coordinator is None else RemoteLedger(coordinator)


def authorities_of(base: CaContext, linter: Linter) -> Authorities:
    return Authorities(base.store, base.keystore, linter, base.now, base.settings.trust_domain, base.url)


def services_of(
    base: CaContext, trust_root: bytes, signer: Signer, feed: CallerFeed | None = None
) -> list[ServedService]:
    linter = linter_of(base.settings)
    current, now = base.live.current, base.now
    pages = Pages(PageTokens(base.keystore.derive("page tokens")))
    mutations = Mutations(base.store)
    renewal = Renewal(base.issuance, base.store, Nonces(base.keystore.derive("renewal nonces"), now), now)
    profiles = Profiles(base.store, linter, now, base.settings.trust_domain, base.url, frozenset(BUILTIN_NAMES))
    return [
        ServedService(
            authority_service_pb2.DESCRIPTOR.services_by_name["AuthorityService"],
            authority_servicer.AuthorityServicer(
                authorities_of(base, linter),
                base.store,
                mutations,
                current,
                base.live.changed_since,
                lambda: trust_root,
                pages,
            ),
            authority_servicer.ACCESS,
        ),
        ServedService(
            certificate_service_pb2.DESCRIPTOR.services_by_name["CertificateService"],
            certificate_servicer.CertificateServicer(
                base.issuance,
                renewal,
                Revoking(now),
                BulkRevocation(now),
                KeyBlocking(now, known_persons_of(base)),
                base.store,
                mutations,
                current,
                pages,
                now,
                RevocationWatches(SharedReads(base.store, base.topics, REVOCATIONS)),
            ),
            certificate_servicer.ACCESS,
        ),
        ServedService(
            profile_service_pb2.DESCRIPTOR.services_by_name["ProfileService"],
            profile_servicer.ProfileServicer(profiles, base.store, mutations, current, pages),
            profile_servicer.ACCESS,
        ),
        ServedService(
            enrollment_service_pb2.DESCRIPTOR.services_by_name["EnrollmentService"],
            token_servicer.TokenServicer(tokens_of(base), base.store, mutations, pages),
            token_servicer.ACCESS,
            excluded_methods=token_servicer.EXCLUDED_METHODS,
        ),
        ServedService(
            issuance_service_pb2.DESCRIPTOR.services_by_name["IssuanceService"],
            issuance_servicer.IssuanceServicer(halt_switch_of(base), base.store, mutations),
            issuance_servicer.ACCESS,
        ),
        ServedService(
            operator_service_pb2.DESCRIPTOR.services_by_name["OperatorService"],
            operator_servicer.OperatorServicer(
                tokens_of(base),
                SshKeys(tokens_of(base).operators, now),
                base.store,
                mutations,
                pages,
                lambda: current().known_keys,
            ),
            operator_servicer.ACCESS,
        ),
        ServedService(
            operator_session_service_pb2.DESCRIPTOR.services_by_name["OperatorSessionService"],
            session_servicer.OperatorSessionServicer(
                Sessions(now, CertificateHolders(current, now), lambda: current().known_keys),
                Tickets(signer, base.settings.trust_domain, now),
                base.store,
                mutations,
                pages,
            ),
            session_servicer.ACCESS,
        ),
        ServedService(
            trust_service_pb2.DESCRIPTOR.services_by_name["TrustService"],
            trust_servicer.TrustServicer(feed, mutations, base.settings.trust_domain),
            trust_servicer.ACCESS,
        ),
        *database_services(base.audit, base.store, pages, base.topics, base.trust),
    ]


def known_persons_of(base: CaContext) -> Callable[[Actor, int], None]:
    """Who counts for dual control: in production, those who have been known for seven days."""
    return refuse_unknown_person if base.settings.operators.two_persons else lambda _actor, _now: None


def halt_switch_of(base: CaContext) -> HaltSwitch:
    return HaltSwitch(base.now, base.settings.issuance.resume_needs_two, known_persons_of(base))


def operation_runner_of(base: CaContext) -> OperationRunner[Transaction]:
    leadership = Leadership(
        base.store, "operations", base.issuance.worker_id, alone=base.settings.sqlite_file is not None
    )
    return OperationRunner(
        leadership, {bulk.METHOD: BulkRevocation(base.now).step()}, base.now, base.topics.follower(OPERATIONS)
    )


def api_server_of(settings: CaSettings) -> ApiServer | None:
    """The Kubernetes API server, where the settings name one."""
    kubernetes = settings.enroll.kubernetes
    if kubernetes is None:
        return None
    return ApiServer(ApiAccess.of(kubernetes))


def bundle_jobs(base: CaContext) -> list[Coroutine[Any, Any, None]]:
    """The job that publishes the bundle in the cluster, where the settings say so."""
    kubernetes, api_server = base.settings.enroll.kubernetes, api_server_of(base.settings)
    if kubernetes is None or api_server is None or not (kubernetes.bundle or kubernetes.trust_bundle_signer):
        return []
    return [BundlePublisher(api_server, kubernetes.bundle, kubernetes.trust_bundle_signer, base.live.current).run()]


def tokens_of(base: CaContext) -> EnrollmentTokens:
    return EnrollmentTokens(
        base.keystore,
        base.settings.trust_domain,
        base.live.current,
        base.settings.enroll.named_address,
        base.now,
        two_persons=base.settings.operators.two_persons,
    )


async def trust_root_of(store: Store) -> bytes:
    root = await store.read(lambda tx: tx.trust_metadata("root"))
    if root is None:
        raise StartRefused("the database has no root of the trust metadata; restore it from a backup")
    return root


def store_of(
    reader: Database,
    writer: Database | None,
    now: Callable[[], int] = system_clock,
    process: str = "tool",
    *,
    seals: Seals | None = None,
) -> CaStore:
    """The store; without a writer it only reads. `process` names its audit chains; `seals` come with the key store."""
    return store_on(reader, writer, read_profile=profile_from_canonical, now=now, process=process, seals=seals)


def look(settings: CaSettings) -> list[Finding]:
    """Check everything that can be seen without the service; nothing is changed."""
    binding = binding_of(settings)
    private = [(settings.state_directory, 0o700), (settings.kek_file, 0o600)]
    if not settings.keys.mounted:  # a mounted recovery key is taken away after the first start
        private.append((settings.recovery_key_file, 0o600))

    def in_database(database: Database) -> Iterator[Finding]:
        def store(seals: Seals | None) -> CaStore:
            return store_of(database, None, seals=seals)

        keystore = partial(open_keystore, settings)
        return control_plane_findings(store, binding, keystore, settings.trust_domain, system_clock)

    return look_at_service(settings, SCHEMA, binding, private, in_database)


def remove(settings: CaSettings) -> list[str]:
    """Remove what was made in the database; see `Migrations.remove`."""

    def bound_state(database: Database) -> BoundState | None:
        control_plane = store_of(database, None).read_here(lambda tx: tx.control_plane())
        return None if control_plane is None else control_plane.bound

    return remove_database(settings, SCHEMA, binding_of(settings), bound_state)


def binding_of(settings: CaSettings) -> DatabaseBinding:
    """The control plane that the state directory belongs to, or in Kubernetes the release."""
    bootstrap = settings.bootstrap
    memory: BindingMemory = BindingFile(settings.state_directory / "control-plane.json")
    if bootstrap.secret is not None:
        namespace, _, name = bootstrap.secret.partition("/")
        memory = BindingSecret(BlockingApi(ApiAccess.of(bootstrap)), namespace, name)
    return DatabaseBinding(memory, place_of(settings))


def new_worker_id(settings: CaSettings, role: str) -> str:
    """A worker id, unique per start: a successor never reuses serial blocks."""
    return f"{settings.instance}/{role}/{uuid.uuid4()}"
