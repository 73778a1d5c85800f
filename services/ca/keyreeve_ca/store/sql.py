"""`store.ports.Transaction` and `Store` on both databases (SQLAlchemy Core; every value is bound).

A write is serializable because it is alone: on SQLite there is one writer, and on PostgreSQL it holds the commit gate's
lock (ledger/commit_rules.py), which also blocks groups while an authority or a profile changes.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from keyreeve import errors
from keyreeve.values import AuthorityKind, Hierarchy
from keyreeve_ca.arrays.sql import SqlArrays
from keyreeve_ca.authorities import sql as authorities_sql
from keyreeve_ca.blocked_keys.sql import SqlBlockedKeys
from keyreeve_ca.blocked_keys.tables import blocked_keys
from keyreeve_ca.enrollment.sql import SqlTokens
from keyreeve_ca.halt.service import refuse_when_halted
from keyreeve_ca.halt.sql import SqlHalts
from keyreeve_ca.halt.tables import issuance_halt
from keyreeve_ca.ledger import blocks
from keyreeve_ca.ledger.commit_rules import lock_exclusively
from keyreeve_ca.ledger.ports import BlockLease, BlockRequest
from keyreeve_ca.ledger.wire import results_from, unpack
from keyreeve_ca.operators.sql import SqlOperators
from keyreeve_ca.operators.tables import operators
from keyreeve_ca.profiles import sql as profiles_sql
from keyreeve_ca.profiles.profile import Profile, ProfileVersion
from keyreeve_ca.revocation import sql as revocations_sql
from keyreeve_ca.revocation.ports import Revocation
from keyreeve_ca.revocation.sql import SqlRevocations
from keyreeve_ca.revocation.tables import revocations
from keyreeve_ca.sessions.sql import SqlSessions
from keyreeve_ca.store import certificate_pages
from keyreeve_ca.store.audit_tables import AUDIT
from keyreeve_ca.store.ports import (
    CONFIG,
    Answered,
    Authority,
    CertificateFilter,
    CertificatePage,
    ControlPlaneState,
    StoredCertificate,
)
from keyreeve_ca.store.tables import (
    authorities,
    certificates,
    control_plane,
    keys,
    leases,
    operations,
    renewals,
    requests,
    trust_metadata,
)
from keyreeve_ca.store.trust_tables import TRUST_TABLES
from keyreeve_ca.trust.sql import SqlCallers
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.database.store import SqlStore, SqlTransaction
from keyreeve_chassis.database.transactions import Database, touch
from keyreeve_chassis.idempotency.sql import SqlRequests
from keyreeve_chassis.keys.ports import SealedKey
from keyreeve_chassis.keys.sql import add_key, destroy_key, find_key
from keyreeve_chassis.leases.sql import SqlLeases
from keyreeve_chassis.operations.sql import SqlOperations
from keyreeve_chassis.trust_tables.ports import table_altered
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.sql import SqlTrust

T = TypeVar("T")

_COUNTED = 16_384
"""Rows that are read to count some."""
_MOST_OF_ONE = 100_000
"""Certificates of one operator that are looked at: 12 hours each, so none has as many."""
_CONTROL_PLANE = select(*[control_plane.c[f.name] for f in fields(ControlPlaneState)])
# Made once: to build a statement takes longer than to execute it, and each refused request asks.
_ANSWERED = select(
    requests.c.payload_sha256, requests.c.response, requests.c["items"], control_plane.c.config_version
).join_from(
    control_plane,
    requests,
    and_(
        requests.c.caller == bindparam("caller"),
        requests.c.method == bindparam("method"),
        requests.c.request_id == bindparam("request_id"),
    ),
    isouter=True,
)
_CERTIFICATE_AND_REVOCATION = (
    select(*certificate_pages.COLUMNS, *revocations_sql.COLUMNS)
    .join_from(certificates, revocations, revocations.c.serial == certificates.c.serial, isouter=True)
    .where(certificates.c.serial == bindparam("serial"))
)


class CaTransaction(SqlTransaction):
    """Reads and writes of one database transaction."""

    def __init__(
        self,
        connection: Connection,
        *,
        now: int,
        writable: bool,
        read_profile: Callable[[str], Profile],
        seals: Seals | None,
    ) -> None:
        super().__init__(connection, now=now, writable=writable)
        self._read_profile = read_profile
        self._trust = None if seals is None else SqlTrust(connection, TRUST_TABLES, seals, self._must_be_writable)

    @property
    def trust(self) -> SqlTrust:
        """The trust tables; the key store must be open."""
        assert self._trust is not None, "nothing that decides about rights is read before the key store is open"
        return self._trust

    def complete(self) -> None:
        """Write the heads of changed trust tables."""
        if self._trust is not None:
            self._trust.complete()

    @property
    def revocations(self) -> SqlRevocations:
        """The revocations."""
        return SqlRevocations(self._connection, self.trust, self._must_be_writable, self._read_profile)

    @property
    def halt(self) -> SqlHalts:
        """The halt switch."""
        return SqlHalts(self._connection, self.trust, writable=self._writable)

    @property
    def operations(self) -> SqlOperations:
        """The long-running operations."""
        return SqlOperations(self._connection, operations, self._must_be_writable)

    @property
    def leases(self) -> SqlLeases:
        """The leases."""
        return SqlLeases(self._connection, leases, self._now, self._must_be_writable)

    @property
    def operators(self) -> SqlOperators:
        """The operators."""
        return SqlOperators(self.trust, self._next_number)

    @property
    def sessions(self) -> SqlSessions:
        """The sessions of operators."""
        return SqlSessions(self._connection, self.trust, self._next_number)

    @property
    def blocked_keys(self) -> SqlBlockedKeys:
        """The blocked keys."""
        return SqlBlockedKeys(self._connection, self.trust)

    @property
    def arrays(self) -> SqlArrays:
        """The orders of the membership service, and members' records."""
        return SqlArrays(self._connection, self.trust, self._next_number, writable=self._writable)

    @property
    def callers(self) -> SqlCallers:
        """What decides about callers, in the order of its changes."""
        return SqlCallers(self._connection, self.trust)

    # --- The control plane ---

    def control_plane(self) -> ControlPlaneState | None:
        """The one row that describes the whole control plane; None before bootstrap."""
        row = self._connection.execute(_CONTROL_PLANE).one_or_none()
        return None if row is None else ControlPlaneState(*row)

    def bootstrap_control_plane(self, state: ControlPlaneState) -> None:
        """Insert that row; fails when it exists."""
        self._write(insert(control_plane).values(id=1, last_block_id=0, block_count=0, **asdict(state)))

    def complete_bootstrap(self, now: int) -> None:
        """Mark the bootstrap as complete."""
        self._write(update(control_plane).values(bootstrapped_at=now))

    def bump_config(self) -> int:
        """Raise `config_version` and return it."""
        touch(self._connection, CONFIG)
        version: int = self._write(
            update(control_plane)
            .values(config_version=control_plane.c.config_version + 1)
            .returning(control_plane.c.config_version)
        ).scalar_one()
        return version

    # --- Keys ---

    def add_key(self, key: SealedKey) -> None:
        """Store a sealed key."""
        self._must_be_writable()
        add_key(self._connection, keys, key)

    def key(self, key_id: str) -> SealedKey:
        """Raises `LookupError` when there is no such key or it has been destroyed."""
        return find_key(self._connection, keys, key_id)

    def destroy_key(self, key_id: str) -> None:
        """Overwrite the sealed private key; the public part stays."""
        self._must_be_writable()
        destroy_key(self._connection, keys, key_id)

    # --- Authorities ---

    def reserve_block(self, request: BlockRequest) -> BlockLease:
        """Record a block for the serial number of a CA certificate, closed to leaves."""
        self._must_be_writable()
        if request.exemption is None:
            refuse_when_halted(self)
            if altered := self.trust.verify(TRUST_TABLES.listed):
                raise table_altered(altered)
        return blocks.reserve(self._connection, request, self._now)

    def add_authority(self, authority: Authority) -> None:
        """Insert an authority. Raises `AuthorityExists`."""
        self._must_be_writable()
        authorities_sql.add(self._connection, self.trust.rows(authorities), authority, self._number_of(authority))

    def authority(self, authority_id: str) -> Authority:
        """Read an authority. Raises `AuthorityNotFound`."""
        return authorities_sql.find(self._connection, authority_id)

    def authorities(self, *, after: str = "", limit: int | None = None) -> Sequence[Authority]:
        """All authorities ordered by id, from the one after `after`."""
        return authorities_sql.page(self._connection, after=after, limit=limit)

    def update_authority(self, authority: Authority) -> None:
        """Store the new state and times of an authority."""
        self._must_be_writable()
        authorities_sql.replace(self.trust.rows(authorities), authority, self._number_of(authority))

    def last_expiry(self, authority_id: str) -> int | None:
        """Latest notAfter among the certificates and subordinate CAs that this authority issued."""
        return authorities_sql.last_expiry(self._connection, authority_id)

    # --- Profiles ---

    def add_profile_version(self, version: ProfileVersion, created_at: int, created_by: str) -> None:
        """Store a version and make it the current one; raises `ProfileExists` / `ProfileVersionStale` on a race."""
        self._must_be_writable()
        profiles_sql.add(self._connection, self.trust, version, created_at, created_by)

    def profile(self, name: str, version: int | None = None) -> ProfileVersion:
        """Read the current or the given version. Raises `ProfileNotFound`."""
        return profiles_sql.find(self._connection, self._read_profile, name, version)

    def profile_facts(self, name: str, version: int) -> tuple[int, str]:
        """When the version was made (seconds since 1970), and by whom. Raises `ProfileNotFound`."""
        return profiles_sql.facts(self._connection, name, version)

    def profiles(self, *, after: str = "", limit: int | None = None) -> Sequence[ProfileVersion]:
        """The current version of every profile ordered by name, from the one after `after`."""
        return profiles_sql.page(self._connection, self._read_profile, after=after, limit=limit)

    def halt_profile(self, name: str, version: int) -> None:
        """Halt a version, and every other version with the same document."""
        self._must_be_writable()
        profiles_sql.halt(self.trust, name, version)

    # --- Certificates ---

    def certificate(self, serial: bytes) -> StoredCertificate:
        """Read a certificate. Raises `CertificateNotFound`."""
        return self.certificate_and_revocation(serial)[0]

    def certificate_and_revocation(self, serial: bytes) -> tuple[StoredCertificate, Revocation | None]:
        """Read a certificate and its revocation, in one statement."""
        row = self._connection.execute(_CERTIFICATE_AND_REVOCATION, {"serial": serial}).one_or_none()
        if row is None:
            raise errors.CertificateNotFound(
                f"there is no certificate {serial.hex()} that you may see", metadata={"serial": serial.hex()}
            )
        certificate, revocation = row[: len(certificate_pages.COLUMNS)], row[len(certificate_pages.COLUMNS) :]
        return (
            certificate_pages.stored(certificate),
            None if revocation[0] is None else revocations_sql.stored(revocation),
        )

    def certificates_by_serial(self, serials: Sequence[bytes]) -> dict[bytes, StoredCertificate]:
        """The given serial numbers that are in the ledger."""
        return certificate_pages.by_serial(self._connection, serials)

    def successor(self, serial: bytes) -> StoredCertificate | None:
        """The certificate that renewed this one."""
        query = (
            select(*certificate_pages.COLUMNS)
            .join(renewals, renewals.c.successor == certificates.c.serial)
            .where(renewals.c.predecessor == serial)
        )
        row = self._connection.execute(query).one_or_none()
        return None if row is None else certificate_pages.stored(row)

    def certificates(self, wanted: CertificateFilter, *, after: bytes, limit: int) -> Sequence[StoredCertificate]:
        """Rows in order of serial number, from the one after `after`."""
        return certificate_pages.page(self._connection, wanted, after=after, limit=limit).rows

    def refuse_altered_approvals(self) -> None:
        """Raise `TrustTableAltered` when an earlier approval, or an operator's earlier record, may have been put back."""
        altered = self.trust.verify((operators.name, issuance_halt.name))
        if altered := altered or self.trust.rows_differ((blocked_keys.name,)):
            raise table_altered(altered)

    def is_revoked_since(self, identity: str, since: int) -> bool:
        """Whether a certificate of this identity was revoked at this time or later."""
        found = self.certificates(CertificateFilter(identity=identity, revoked=True), after=b"", limit=_MOST_OF_ONE)
        revoked = self.revocations.of([one.serial for one in found])
        return any(one.revoked_at >= since for one in revoked.values())

    def certificate_page(self, wanted: CertificateFilter, *, after: bytes, limit: int) -> CertificatePage:
        """Up to `limit` certificates; fewer when finding more would take long."""
        most = certificate_pages.MOST_READ
        return certificate_pages.page(self._connection, wanted, after=after, limit=limit, most_read=most)

    def newest_page(self, wanted: CertificateFilter, *, after: bytes, limit: int) -> CertificatePage:
        """The same from the newest on, in order of `issued_at` and serial number."""
        most = certificate_pages.MOST_READ
        return certificate_pages.newest_page(self._connection, wanted, after=after, limit=limit, most_read=most)

    def count_certificates(self, wanted: CertificateFilter, *, after: bytes) -> tuple[int, bytes | None]:
        """Count matching certificates within a bounded time; also return where to continue."""
        return certificate_pages.count(self._connection, wanted, after=after, most_read=_COUNTED)

    def ledger_position(self) -> Hashable:
        """A value that differs once a certificate has entered the ledger; in one statement."""
        return blocks.position(self._connection)

    def newest_certificates(self, profile_name: str | None, limit: int) -> Sequence[StoredCertificate]:
        """The last `limit` rows, newest first, under any version of the profile, or of all profiles."""
        return certificate_pages.newest(self._connection, profile_name, limit)

    # --- Answered requests ---

    def answered(self, caller: str, method: str, request_id: str) -> Answered | None:
        """The stored answer to a request of the last 24 hours."""
        return self.answered_and_version(caller, method, request_id)[0]

    def answered_and_version(self, caller: str, method: str, request_id: str) -> tuple[Answered | None, int]:
        """The same, and the version of the configuration, in one statement."""
        payload_sha256, response, items, version = self._connection.execute(
            _ANSWERED, {"caller": caller, "method": method, "request_id": request_id}
        ).one()
        if payload_sha256 is None:
            return None, version
        return Answered(payload_sha256, response, None if items is None else results_from(unpack(items))), version

    @property
    def requests(self) -> SqlRequests:
        """Stored answers of mutations."""
        return SqlRequests(self._connection, requests, self._now, self._must_be_writable)

    # --- Enrollment ---

    @property
    def tokens(self) -> SqlTokens:
        """The enrollment tokens."""
        return SqlTokens(self._connection, self.trust)

    # --- Trust metadata ---

    def put_trust_metadata(self, role: str, version: int, body: bytes) -> None:
        """Store a version of a TUF role's metadata; a version is written once."""
        self._write(insert(trust_metadata).values(role=role, version=version, body=body))

    def trust_metadata(self, role: str) -> bytes | None:
        """The newest version of a TUF role's metadata."""
        query = (
            select(trust_metadata.c.body)
            .where(trust_metadata.c.role == role)
            .order_by(trust_metadata.c.version.desc())
            .limit(1)
        )
        body: bytes | None = self._connection.scalar(query)
        return body

    def _number_of(self, authority: Authority) -> int | None:
        """The number of a change of an authority that vouches for callers; None for the others, which nobody follows."""
        vouches = authority.hierarchy is Hierarchy.CONTROL and authority.kind is AuthorityKind.INTERMEDIATE
        return self._next_number() if vouches else None

    def _next_number(self) -> int:
        """The number of a change that followers hear of; its row stays locked until the commit."""
        self._must_be_writable()
        return self.revocations.take_numbers(1)


CaStore = SqlStore[CaTransaction]


def store_on(
    reader: Database,
    writer: Database | None,
    *,
    read_profile: Callable[[str], Profile],
    now: Callable[[], int],
    process: str,
    seals: Seals | None,
) -> CaStore:
    """The CA's store; without a writer it only reads. `process` names its audit chains.

    Without `seals` it reads what says nothing about rights.
    """
    return SqlStore(
        SqlAuditLog(AUDIT, reader, writer),
        partial(CaTransaction, read_profile=read_profile, seals=seals),
        lock=lock_exclusively,
        process=process,
        now=now,
    )
