"""An authority, a profile, blocks and groups for the ledger, with synthetic certificates."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from keyreeve.identity import Role
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.certificates.serials import serial as serial_number
from keyreeve_ca.ledger.ports import (
    BlockLease,
    BlockRequest,
    CommitGroup,
    IssuedCertificate,
    ItemFailure,
    Ledger,
    RequestClaim,
    Rpc,
)
from keyreeve_ca.profiles.profile import CommonName, KeyUsage, Profile, ProfileVersion
from keyreeve_ca.store.ports import Authority, ControlPlaneState, Transaction
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey

NOW = 1_800_000_000
CALLER = "spiffe://example.test/operators/admin/alice"
METHOD = "/keyreeve.ca.v1.CertificateService/SignCertificate"
PROFILE_HASH = b"P" * 32
SEED = b"S" * 32
WORKER = "worker-1"
STATED_PROFILE = Profile(
    description="",
    hierarchy=Hierarchy.ESTATE,
    requesters=frozenset({Role.ADMIN}),
    keys=frozenset({KeyType.P256}),
    default_lifetime=timedelta(days=30),
    maximum_lifetime=timedelta(days=30),
    backdate=timedelta(minutes=5),
    common_name=CommonName.OPTIONAL,
    dns=None,
    uri=None,
    ip=None,
    email=None,
    minimum_names=1,
    key_usage=frozenset({KeyUsage.DIGITAL_SIGNATURE}),
    extended_key_usage=frozenset(),
    one_identity_per_key=False,
    may_use_reserved_names=False,
)
"""The parsed form of all profile documents in these tests."""
_numbers = itertools.count(1)


def authority(authority_id: str = "estate-1", **changes: object) -> Authority:
    made = Authority(
        authority_id=authority_id,
        hierarchy=Hierarchy.ESTATE,
        kind=AuthorityKind.INTERMEDIATE,
        owner="",
        state=AuthorityState.ACTIVE,
        issuer_id=authority_id,
        key_id=f"key of {authority_id}",
        key_type=KeyType.P256,
        certificate_der=b"certificate",
        spki_sha256=b"k" * 32,
        not_before=NOW - 100,
        not_after=NOW + 1_000_000,
        created_at=NOW,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def profile_version(name: str = "server", version: int = 1, sha256: bytes = PROFILE_HASH) -> ProfileVersion:
    return ProfileVersion(name, version, sha256, json.dumps({"name": name}), STATED_PROFILE)


def bootstrap(tx: Transaction, *authorities: Authority) -> None:
    """A control plane with one active authority (or the given ones) and the profile `server`."""
    tx.bootstrap_control_plane(ControlPlaneState("example.test", 1, 1, b"check", NOW))
    for one in authorities or (authority(),):
        tx.add_key(SealedKey(one.key_id, KeyType.P256, b"spki", b"sealed"))
        tx.add_authority(one)
    tx.add_profile_version(profile_version(), NOW, CALLER)
    tx.trust.seal()


def block_request(authority_id: str = "estate-1", worker_id: str = WORKER, **changes: object) -> BlockRequest:
    made = BlockRequest(authority_id, worker_id, frozenset({PROFILE_HASH}), "seed-1", b"sealed seed")
    return replace(made, **changes)  # type: ignore[arg-type]


def request_id() -> str:
    """A unique request id."""
    return f"018f0000-0000-7000-8000-{next(_numbers):012x}"


@dataclass
class Block:
    """A leased block, from which it makes certificates and groups."""

    lease: BlockLease
    request: BlockRequest
    counter: int = -1
    _groups: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @classmethod
    async def leased(cls, ledger: Ledger, request: BlockRequest | None = None) -> "Block":
        request = request or block_request()
        return cls(await ledger.lease_block(request), request)

    def certificate(self, **changes: object) -> IssuedCertificate:
        """The next certificate of the block."""
        self.counter += 1
        made = IssuedCertificate(
            serial=serial_number(self.lease.block_id, SEED, self.counter),
            authority_id=self.request.authority_id,
            profile_name="server",
            profile_version=1,
            caller=CALLER,
            request_id="",
            identity=f"host-{next(_numbers)}.example.test",
            spki_sha256=next(_numbers).to_bytes(32, "big"),
            not_before=NOW - 300,
            not_after=NOW + 86_400,
            issued_at=NOW,
            der=b"D" * 900,
            csr=b"C" * 350,
            requested_sans="[]",
            requested_lifetime_seconds=None,
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    def claim(
        self, *items: IssuedCertificate | ItemFailure, identifier: str | None = None, payload: bytes = b"H" * 32
    ) -> RequestClaim:
        """A request with these items, or with one certificate."""
        identifier = identifier or request_id()
        items = items or (self.certificate(),)
        owned = tuple(replace(i, request_id=identifier) if isinstance(i, IssuedCertificate) else i for i in items)
        return RequestClaim(CALLER, Rpc(METHOD), identifier, payload, owned)

    def group(self, *claims: RequestClaim, **changes: object) -> CommitGroup:
        """A group of these requests, or of one request with one certificate."""
        claims = claims or (self.claim(),)
        made = CommitGroup(
            group_id=self.lease.block_id.to_bytes(8, "big") + next(_numbers).to_bytes(8, "big"),
            worker_id=self.request.worker_id,
            block_id=self.lease.block_id,
            restore_generation=self.lease.restore_generation,
            authority_id=self.request.authority_id,
            profile_hashes=frozenset({PROFILE_HASH}),
            last_counter=self.counter,
            requests=tuple(claims),
        )
        return replace(made, **changes)  # type: ignore[arg-type]


def serials(claims: Sequence[RequestClaim]) -> list[bytes]:
    """The serial numbers in some requests."""
    return [i.serial for c in claims for i in c.items if isinstance(i, IssuedCertificate)]
