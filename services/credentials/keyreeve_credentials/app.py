"""Composition root of the credentials service: the only file that names its concrete classes."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from functools import partial

from keyreeve.credentials.v1 import (
    access_policy_service_pb2,
    entry_service_pb2,
    host_key_service_pb2,
    key_file_service_pb2,
    key_service_pb2,
    launch_setting_service_pb2,
    object_service_pb2,
    resolution_service_pb2,
)
from keyreeve.errors import EntryDamaged, KeyreeveError, TrustTableAltered, Unavailable, VaultKeyUnavailable
from keyreeve.identity import SpiffeId
from keyreeve_chassis.database.storage import DatabaseContext, DatabaseStorage
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.kubernetes.api_server import ApiAccess, BlockingApi
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.processes.solo import solo_role
from keyreeve_chassis.service import Jobs, OpenStorage, ServiceContext, ServiceSpec
from keyreeve_credentials import metrics
from keyreeve_credentials.entries import servicer as entry_servicer
from keyreeve_credentials.entries.request_secrets import SecretMasking
from keyreeve_credentials.entries.scrubber import Scrubber
from keyreeve_credentials.entries.service import Entries
from keyreeve_credentials.host_keys import servicer as host_key_servicer
from keyreeve_credentials.host_keys.host_key import SshHostKey
from keyreeve_credentials.key_files import servicer as key_file_servicer
from keyreeve_credentials.key_files.service import KeyFiles
from keyreeve_credentials.key_files.workshop import Workshop
from keyreeve_credentials.keys import servicer as key_servicer
from keyreeve_credentials.keys.keyring import LOOK_SECONDS, Keyring
from keyreeve_credentials.keys.ports import KEYS, RootProvider, SealState
from keyreeve_credentials.keys.roots.check import check_root
from keyreeve_credentials.keys.roots.files import open_root_files
from keyreeve_credentials.keys.roots.secrets import open_root_secrets
from keyreeve_credentials.keys.seal_switch import SealSwitch
from keyreeve_credentials.keys.service import ROTATE, Keys
from keyreeve_credentials.keys.sql import look_at_seal
from keyreeve_credentials.keys.sweep import Sweep
from keyreeve_credentials.keys.vault import Vault
from keyreeve_credentials.launch_settings import servicer as launch_setting_servicer
from keyreeve_credentials.launch_settings.layers import LaunchSettings
from keyreeve_credentials.objects import servicer as object_servicer
from keyreeve_credentials.objects.service import Objects
from keyreeve_credentials.policies import servicer as policy_servicer
from keyreeve_credentials.policies.checking import AccessCheck
from keyreeve_credentials.policies.limits import ReadLimits
from keyreeve_credentials.policies.past_reads import AuditedReads
from keyreeve_credentials.policies.ports import POLICIES
from keyreeve_credentials.policies.service import Policies, PolicyBook
from keyreeve_credentials.resolution import servicer as resolution_servicer
from keyreeve_credentials.resolution.grouped_reads import GroupedReads
from keyreeve_credentials.resolution.service import Resolution
from keyreeve_credentials.restarts.members import ReportedBoots
from keyreeve_credentials.restarts.service import NewKeyOnRestart
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from keyreeve_credentials.store.sql import Transaction

log = logging.getLogger(__name__)

_SHOWN_SECONDS = 10.0
_DUE_SECONDS = 30.0
_RESTART_SECONDS = 30.0
_EXCHANGES_PER_SECOND = 100.0
_EXCHANGES_AT_ONCE = 500
"""SSH key exchanges of one gateway: 200 logins at once, and what re-keys meanwhile."""

DATABASE = DatabaseStorage[CredentialsSettings, Transaction](SCHEMA, Transaction)


@dataclass(frozen=True)
class CredentialsContext(DatabaseContext[CredentialsSettings, Transaction]):
    """What handlers and jobs use: the database, and the vault beside it."""

    vault: Vault
    entries: Entries
    keys: Keys
    policies: Policies
    policy_book: PolicyBook
    limits: ReadLimits

    @property
    def access(self) -> AccessCheck:
        """What each call is checked with before it reads or changes anything."""
        return AccessCheck(self.identity.members, self.policy_book, self.limits)


@dataclass(frozen=True)
class CredentialsStorage:
    """The database and the root provider, opened together."""

    database: DatabaseStorage[CredentialsSettings, Transaction]

    def migrate(self, settings: CredentialsSettings, *, expand: bool = False) -> None:
        """See `Migrations.migrate`."""
        self.database.migrate(settings, expand=expand)

    def remove(self, settings: CredentialsSettings) -> list[str]:
        """See `Migrations.remove`."""
        return self.database.remove(settings)

    def look(self, settings: CredentialsSettings) -> Sequence[Finding]:
        """Check the installation without the running service; nothing is changed."""
        return self.database.look(settings, look_at_seal)

    @asynccontextmanager
    async def open(
        self, settings: CredentialsSettings, *, now: Callable[[], int], process: str
    ) -> AsyncIterator[OpenStorage[CredentialsSettings]]:
        """Open both. Raises `StartRefused`: with keys in the database, a root key is never made anew."""
        async with self.database.open(settings, now=now, process=process) as opened:
            try:
                context = await _open_vault(opened.context, settings, now)
            except BaseException:
                for job in opened.jobs:
                    job.close()
                raise
            yield replace(opened, context=context)


async def _open_vault(
    context: ServiceContext[CredentialsSettings], settings: CredentialsSettings, now: Callable[[], int]
) -> CredentialsContext:
    """Open the root provider beside the database."""
    assert isinstance(context, DatabaseContext)
    assert context.trust is not None, "the service has trust tables"
    known = await context.store.read(lambda tx: tx.keks.exist())
    root = await asyncio.to_thread(_open_root, settings, first_start=not known)
    keks = await context.store.read(lambda tx: tx.keks.all()) if not context.trust.alterations else []
    await asyncio.to_thread(check_root, root, keks)
    keyring = Keyring(root)
    switch = SealSwitch(context.store, keyring, context.trust.refuse)
    await _make_seal(context)
    await switch.refresh()
    vault = Vault(context.store, root, keyring, settings.trust_domain, now, switch)
    policies = Policies(now, _alarm)
    book = PolicyBook(context.store, policies)
    await book.refresh()
    return CredentialsContext(
        **{field.name: getattr(context, field.name) for field in fields(context)},
        vault=vault,
        entries=Entries(vault, now, _alarm),
        keys=Keys(root, context.store, now),
        policies=policies,
        policy_book=book,
        limits=_limits(settings),
    )


def _open_root(settings: CredentialsSettings, *, first_start: bool) -> RootProvider:
    """Open the root provider of the settings. Raises `KeyStoreError`."""
    secrets = settings.vault.secrets
    if secrets is None:
        return open_root_files(settings.vault_keys_directory, first_start=first_start)
    return open_root_secrets(BlockingApi(ApiAccess.of(secrets)), secrets.namespace, secrets.root_key_file)


async def _make_seal(context: DatabaseContext[CredentialsSettings, Transaction]) -> None:
    """Make the row of the seal switch at the first start; where it was deleted, the trust tables say so."""
    assert context.trust is not None
    if not context.trust.alterations and await context.store.read(lambda tx: tx.keks.seal_state()) is None:
        await context.store.write(lambda tx: tx.keks.put_seal_state(SealState(sealed=False)))


def _limits(settings: CredentialsSettings) -> ReadLimits:
    return ReadLimits(
        per_second=settings.vault.reads_per_second,
        burst=settings.vault.reads_at_once,
        unusual_owners=settings.vault.unusual_owners,
        clock=time.monotonic,
        unusual=_unusual,
    )


def _unusual(reader: str, owners: int) -> None:
    """Raise the alarm about a reader of many owners' secrets."""
    metrics.UNUSUAL_READS.inc()
    log.warning("UNUSUAL READS: %s has read the secrets of more than %s owners in a minute", reader, owners)


def _alarm(row: str, why: str) -> None:
    """Raise the integrity alarm for a row."""
    metrics.INTEGRITY_ALARMS.inc()
    log.error("INTEGRITY ALARM: %s: %s", row, why)


def routers(context: CredentialsContext) -> Sequence[ServedService]:
    """The RPC services."""
    store, mutations, pages = context.store, context.mutations, context.pages
    masking = SecretMasking(context.keystore.derive("request secrets"))
    return [
        ServedService(
            entry_service_pb2.DESCRIPTOR.services_by_name["EntryService"],
            entry_servicer.EntryServicer(
                context.entries, context.access, store, mutations, context.vault.prepare, masking, pages
            ),
            entry_servicer.ACCESS,
        ),
        ServedService(
            access_policy_service_pb2.DESCRIPTOR.services_by_name["AccessPolicyService"],
            policy_servicer.PolicyServicer(context.policies, AuditedReads(store.audit_log()), store, mutations, pages),
            policy_servicer.ACCESS,
        ),
        ServedService(
            object_service_pb2.DESCRIPTOR.services_by_name["ObjectService"],
            object_servicer.ObjectServicer(Objects(context.now), context.access, store, mutations, pages),
            object_servicer.ACCESS,
        ),
        ServedService(
            launch_setting_service_pb2.DESCRIPTOR.services_by_name["LaunchSettingService"],
            launch_setting_servicer.LaunchSettingServicer(
                context.access,
                store,
                mutations,
                _launch_defaults(context),
                restarts_known=context.settings.vault.membership_address is not None,
            ),
            launch_setting_servicer.ACCESS,
        ),
        ServedService(
            resolution_service_pb2.DESCRIPTOR.services_by_name["ResolutionService"],
            resolution_servicer.ResolutionServicer(
                Resolution(context.entries, GroupedReads(store), context.now),
                context.access,
                mutations,
                context.vault.prepare,
                masking,
            ),
            resolution_servicer.ACCESS,
        ),
        ServedService(
            key_service_pb2.DESCRIPTOR.services_by_name["KeyService"],
            key_servicer.KeyServicer(context.keys, context.vault.switch, mutations),
            key_servicer.ACCESS,
        ),
        ServedService(
            key_file_service_pb2.DESCRIPTOR.services_by_name["KeyFileService"],
            key_file_servicer.KeyFileServicer(
                Workshop(KeyFiles(context.vault, context.now, _alarm), store, context.now),
                context.access,
                store,
                mutations,
                context.vault.prepare,
                pages,
                SecretMasking(context.keystore.derive("request secrets")),
            ),
            key_file_servicer.ACCESS,
        ),
        ServedService(
            host_key_service_pb2.DESCRIPTOR.services_by_name["HostKeyService"],
            host_key_servicer.HostKeyServicer(
                SshHostKey(context.keystore.derive),
                context.vault.switch.check,
                signature_limits(),
            ),
            host_key_servicer.ACCESS,
        ),
    ]


def signature_limits(clock: Callable[[], float] = time.monotonic) -> Callable[[str], None]:
    """What counts the SSH key exchanges of each gateway. It raises `ReadRateExceeded`."""
    limits = ReadLimits(
        per_second=_EXCHANGES_PER_SECOND,
        burst=_EXCHANGES_AT_ONCE,
        unusual_owners=1,
        clock=clock,
        unusual=lambda _gateway, _owners: None,
    )
    return partial(limits.count, owner="ssh-host-key")


def jobs(context: CredentialsContext) -> Jobs:
    """Background work."""
    vault = context.settings.vault
    sweep = Sweep(context.vault, context.now, _alarm, vault.rekey_rows_per_second, vault.backup_days * 86_400)
    return [
        _follow_policies(context),
        _follow_keys(context),
        _look_at_keys(context),
        _scrub(context),
        *([_rekey_on_restart(context, vault.membership_address)] if vault.membership_address else []),
        context.operation_runner({ROTATE: sweep.step}).run(),
    ]


def scrubber(context: CredentialsContext) -> Scrubber:
    """Compares the entries with the audit log."""
    kept = context.settings.audit.kept_days * 86_400
    return Scrubber(context.store, context.store.audit_log(), context.now, kept, _alarm)


async def _scrub(context: CredentialsContext) -> None:
    """Scrub now and then, in one process of the service."""
    leadership = context.leadership("scrubber")
    while True:
        await asyncio.sleep(context.settings.vault.scrub_hours * 3_600)

        async def scrub(_store: object) -> None:
            found = await scrubber(context).run()
            log.info("scrubbed %d entries: %d alarms", found.rows, len(found.alarms))

        try:
            await leadership.lead(scrub)
        except (Unavailable, EntryDamaged) as failure:
            log.warning("the entries could not be scrubbed: %s", failure)


async def _follow_keys(context: CredentialsContext) -> None:
    """Keep the seal switch current, and destroy the keys whose time has come."""
    wait, topics = context.topics.follower(KEYS), context.topics
    tended, due_at = topics.version([KEYS]), -math.inf
    while True:
        await wait(_DUE_SECONDS)
        try:
            await context.vault.switch.refresh()
            version = topics.version([KEYS])
            if version == tended and topics.clock() < due_at:
                continue
            for kek in await context.keys.destroy_due():
                log.warning("the key %s has been destroyed", kek.name)
            for array_id in await context.keys.replace_worn(_own_name(context)):
                log.warning("arrays/%s gets a new key: the present one has wrapped many data keys", array_id)
            tended, due_at = version, topics.clock() + _DUE_SECONDS
        except (Unavailable, VaultKeyUnavailable, TrustTableAltered) as failure:
            log.warning("the keys of the vault could not be looked after: %s", failure)


async def _look_at_keys(context: CredentialsContext) -> None:
    """Ask the root provider for the keys in use, so that no call has to."""
    while True:
        used = context.vault.keyring.is_used()
        if used:
            await asyncio.to_thread(context.vault.keyring.look_again)
        # At rest, the first use asks by itself: what it asks about was last seen longer ago than an opened key is used.
        await asyncio.sleep(LOOK_SECONDS / 2 if used else 2 * LOOK_SECONDS)


def _own_name(context: CredentialsContext) -> str:
    """The service's SPIFFE ID: it begins operations by itself."""
    settings = context.settings
    return str(SpiffeId(settings.trust_domain, ("services", "credentials", settings.instance)))


def _launch_defaults(context: CredentialsContext) -> LaunchSettings:
    """The launch settings of arrays that have set none."""
    return LaunchSettings(new_key_on_restart=context.settings.vault.new_key_on_restart)


async def _rekey_on_restart(context: CredentialsContext, address: str) -> None:
    """Look for restarts of members, in one process of the service."""
    boots = ReportedBoots(context.identity.context, address)
    restarts = NewKeyOnRestart(
        context.keys, context.store, boots, context.now, _own_name(context), _launch_defaults(context)
    )
    leadership = context.leadership("restarts")

    async def look(_store: object) -> None:
        for array_id in await restarts.look():
            log.warning("arrays/%s gets a new key: a member has restarted", array_id)

    while True:
        await asyncio.sleep(_RESTART_SECONDS)
        try:
            await leadership.lead(look)
        except KeyreeveError as failure:
            log.warning("restarts of members could not be looked for: %s", failure)


async def _follow_policies(context: CredentialsContext) -> None:
    """Keep the policies in memory current, and show how many owners are read."""
    wait = context.topics.follower(POLICIES)
    metrics.SEALED.set(context.vault.switch.closed)
    while True:
        if await wait(_SHOWN_SECONDS):
            try:
                await context.policy_book.refresh()
            except Unavailable as unavailable:
                log.warning("the policies could not be read: %s", unavailable)
        metrics.MOST_OWNERS_READ.set(context.limits.most_owners())
        metrics.SEALED.set(context.vault.switch.closed)


STORAGE = CredentialsStorage(DATABASE)
SPEC = ServiceSpec(
    "credentials", CredentialsSettings, (solo_role(STORAGE),), jobs, routers, schema=STORAGE, look=STORAGE.look
)
