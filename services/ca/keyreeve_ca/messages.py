"""The CA's protobuf messages to values and back; no other module of the CA's core sees messages."""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Literal, Protocol

from cryptography import x509
from google.protobuf.duration_pb2 import Duration

from keyreeve.ca.v1 import authority_service_pb2 as authority_pb
from keyreeve.ca.v1 import certificate_service_pb2 as certificate_pb
from keyreeve.ca.v1 import crl_reason_pb2
from keyreeve.ca.v1 import profile_service_pb2 as profile_pb
from keyreeve.values import AuthorityKind, AuthorityState, CrlReason, Hierarchy, Name, NameType
from keyreeve_ca.arrays.ports import Order
from keyreeve_ca.authorities.ca_certificate_plan import constraints_of
from keyreeve_ca.blocked_keys.ports import BlockedKey
from keyreeve_ca.issuance.service import LedgerEntry, SignItem
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.revocation.ports import FULL_LIST, Revocation, Shard
from keyreeve_ca.store.ports import Authority
from keyreeve_chassis.guard.call import chosen, duration_of, id_of, invalid, number_of, printable, timestamp
from keyreeve_chassis.keys.key_types import KeyType

_LIST_NAME = re.compile(r"authorities/([^/]+)/revocationLists/(0|[1-9][0-9]{0,8}|all)\Z")
_NONCE = re.compile(r"[!-~]{1,128}\Z")
_UID = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_KEY_HASH = re.compile(r"[0-9a-f]{64}\Z")
_SERIAL = re.compile(r"[0-9a-f]{32}\Z")

HIERARCHIES = {
    authority_pb.HIERARCHY_CONTROL: Hierarchy.CONTROL,
    authority_pb.HIERARCHY_ESTATE: Hierarchy.ESTATE,
    authority_pb.HIERARCHY_STANDALONE: Hierarchy.STANDALONE,
}
KINDS = {
    authority_pb.AUTHORITY_KIND_ROOT: AuthorityKind.ROOT,
    authority_pb.AUTHORITY_KIND_INTERMEDIATE: AuthorityKind.INTERMEDIATE,
}
_STATES = {
    AuthorityState.PENDING: authority_pb.AUTHORITY_STATE_PENDING,
    AuthorityState.INTRODUCED: authority_pb.AUTHORITY_STATE_INTRODUCED,
    AuthorityState.ACTIVE: authority_pb.AUTHORITY_STATE_ACTIVE,
    AuthorityState.RETIRING: authority_pb.AUTHORITY_STATE_RETIRING,
    AuthorityState.RETIRED: authority_pb.AUTHORITY_STATE_RETIRED,
    AuthorityState.REVOKED: authority_pb.AUTHORITY_STATE_REVOKED,
}
AUTHORITY_KEY_TYPES = {
    authority_pb.AUTHORITY_KEY_TYPE_UNSPECIFIED: KeyType.P256,
    authority_pb.AUTHORITY_KEY_TYPE_P256: KeyType.P256,
    authority_pb.AUTHORITY_KEY_TYPE_P384: KeyType.P384,
    authority_pb.AUTHORITY_KEY_TYPE_RSA3072: KeyType.RSA3072,
    authority_pb.AUTHORITY_KEY_TYPE_RSA4096: KeyType.RSA4096,
    authority_pb.AUTHORITY_KEY_TYPE_ED25519: KeyType.ED25519,
}
_NAME_TYPES = {
    certificate_pb.NAME_TYPE_DNS: NameType.DNS,
    certificate_pb.NAME_TYPE_IP: NameType.IP,
    certificate_pb.NAME_TYPE_URI: NameType.URI,
    certificate_pb.NAME_TYPE_EMAIL: NameType.EMAIL,
}

CRL_REASONS = {
    crl_reason_pb2.CRL_REASON_UNSPECIFIED: CrlReason.UNSPECIFIED,
    crl_reason_pb2.CRL_REASON_KEY_COMPROMISE: CrlReason.KEY_COMPROMISE,
    crl_reason_pb2.CRL_REASON_AFFILIATION_CHANGED: CrlReason.AFFILIATION_CHANGED,
    crl_reason_pb2.CRL_REASON_SUPERSEDED: CrlReason.SUPERSEDED,
    crl_reason_pb2.CRL_REASON_CESSATION_OF_OPERATION: CrlReason.CESSATION_OF_OPERATION,
    crl_reason_pb2.CRL_REASON_PRIVILEGE_WITHDRAWN: CrlReason.PRIVILEGE_WITHDRAWN,
}


def serial_of(name: str, field: str = "name") -> bytes:
    """The serial number in `certificates/{serial}`."""
    text = id_of(name, "certificates", field)
    if not _SERIAL.match(text):
        raise invalid(field, "a serial number is 32 lower-case hexadecimal digits")
    return bytes.fromhex(text)


def shard_of(name: str) -> Shard:
    """The authority and the shard in `authorities/{authority}/revocationLists/{shard}`; `all` is the full list."""
    found = _LIST_NAME.match(name)
    if found is None:
        raise invalid("name", "a name of the form authorities/{authority}/revocationLists/{shard} is required")
    return found[1], FULL_LIST if found[2] == "all" else int(found[2])


class _Ordered(Protocol):
    @property
    def order(self) -> authority_pb.Order: ...
    def HasField(self, field_name: Literal["order"]) -> bool: ...  # noqa: N802


def order_of(request: _Ordered) -> Order | None:
    """The place of a change; None: the request has none."""
    if not request.HasField("order"):
        return None
    order = request.order
    if min(order.rotation, order.step, order.fence) < 0:
        raise invalid("order", "its numbers are not negative")
    if not _NONCE.match(order.owner_nonce):
        raise invalid("order.owner_nonce", "1-128 printable ASCII characters without spaces are required")
    return Order(order.rotation, order.step, order.fence, order.owner_nonce)


def uid_of(text: str, field: str) -> str:
    """A unique id that another service made."""
    if not _UID.match(text):
        raise invalid(field, "1-64 letters, digits and hyphens are required")
    return text


def authority_message(authority: Authority) -> authority_pb.Authority:
    """An authority as a message."""
    certificate = x509.load_der_x509_certificate(authority.certificate_der)
    [common_name] = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return authority_pb.Authority(
        name=f"authorities/{authority.authority_id}",
        hierarchy=number_of(HIERARCHIES, authority.hierarchy),
        kind=number_of(KINDS, authority.kind),
        owner=authority.owner,
        issuer=f"authorities/{authority.issuer_id}",
        common_name=str(common_name.value),
        key_type=number_of({n: k for n, k in AUTHORITY_KEY_TYPES.items() if n}, authority.key_type),
        lifetime=Duration(seconds=authority.not_after - authority.not_before + 1),
        permitted_dns_suffixes=constraints_of(certificate).permitted_dns,
        state=_STATES[authority.state],
        certificate_der=authority.certificate_der,
        certificate_sha256=hashlib.sha256(authority.certificate_der).digest(),
        not_before_time=timestamp(authority.not_before),
        not_after_time=timestamp(authority.not_after),
        create_time=timestamp(authority.created_at),
        activate_time=timestamp(authority.activated_at),
        retire_time=timestamp(authority.retired_at),
        revoke_time=timestamp(authority.revoked_at),
    )


def sign_item(item: certificate_pb.SignCertificateItem, field: str) -> SignItem:
    """Read one item of a request."""
    return SignItem(
        profile=id_of(item.profile, "profiles", f"{field}.profile"),
        csr=item.csr,
        names=tuple(
            Name(chosen(_NAME_TYPES, n.type, f"{field}.names[{i}].type"), n.value) for i, n in enumerate(item.names)
        ),
        lifetime=duration_of(item.lifetime, f"{field}.lifetime") if item.HasField("lifetime") else None,
        authority=id_of(item.authority, "authorities", f"{field}.authority") if item.authority else None,
        common_name=printable(item.common_name, f"{field}.common_name") or None,
    )


def certificate_message(
    entry: LedgerEntry, now: int, revocation: Revocation | None = None
) -> certificate_pb.Certificate:
    """A ledger entry as a message."""
    message = certificate_pb.Certificate(
        name=f"certificates/{entry.serial.hex()}",
        authority=f"authorities/{entry.authority_id}",
        profile=f"profiles/{entry.profile_name}",
        profile_version=entry.profile_version,
        identity=entry.identity,
        requester=entry.caller,
        request_id=entry.request_id,
        not_before_time=timestamp(entry.not_before),
        not_after_time=timestamp(entry.not_after),
        issue_time=timestamp(entry.issued_at),
        state=certificate_pb.CERTIFICATE_STATE_VALID,
        spki_sha256=entry.spki_sha256,
        certificate_der=entry.der,
        renews=f"certificates/{entry.renews.hex()}" if entry.renews else "",
        ignored=ignored_of(entry),
    )
    if revocation is not None:
        message.state = certificate_pb.CERTIFICATE_STATE_REVOKED
        message.revoke_time.seconds = revocation.revoked_at
        message.revocation_reason = number_of(CRL_REASONS, revocation.reason)
        message.revoker = revocation.actor
    elif now > entry.not_after:
        message.state = certificate_pb.CERTIFICATE_STATE_EXPIRED
    return message


def ignored_of(entry: LedgerEntry) -> list[str]:
    """The parts of the request that the certificate does not have."""
    return [] if entry.ignored == "[]" else json.loads(entry.ignored)


def renew_at(entry: LedgerEntry) -> int:
    """When to renew: at two thirds of the lifetime plus up to a tenth, spread by the serial number."""
    life = entry.not_after - entry.issued_at
    return entry.issued_at + life * 2 // 3 + life * entry.serial[-1] // 2560


def chain_of(snapshot: IssuanceSnapshot, authority_id: str) -> tuple[bytes, ...]:
    """The certificates above a leaf, without the root; the authority may have been retired since."""
    authority = snapshot.authority(authority_id)
    return () if authority.kind is AuthorityKind.ROOT else (authority.certificate_der,)


def profile_message(
    version: ProfileVersion, facts: Callable[[str, int], tuple[int, str]], built_in: frozenset[str]
) -> profile_pb.Profile:
    """A profile version as a message; `facts` is when it was made and by whom."""
    created_at, creator = facts(version.name, version.version)
    return profile_pb.Profile(
        name=f"profiles/{version.name}",
        version=version.version,
        document=version.document,
        sha256=version.sha256,
        create_time=timestamp(created_at),
        creator=creator,
        halted=version.halted,
        built_in=version.name in built_in,
    )


def blocked_key_message(key: BlockedKey) -> certificate_pb.BlockedKey:
    """A blocked key."""
    return certificate_pb.BlockedKey(
        name=f"blockedKeys/{key.spki_sha256.hex()}",
        reason=key.reason,
        create_time=timestamp(key.created_at),
        creator=key.created_by,
        approve_time=timestamp(key.approved_at),
        approver=key.approved_by,
    )


def key_hash_of(name: str) -> bytes:
    """The hash in `blockedKeys/{sha256}`. Raises `FieldInvalid`."""
    text = id_of(name, "blockedKeys")
    if not _KEY_HASH.match(text):
        raise invalid("name", "a blocked key is named by 64 lower-case hexadecimal digits")
    return bytes.fromhex(text)
