"""Every method of a router times every kind of caller, in both directions, over real mutual TLS.

Calls carry bytes that are no valid message: a caller without access is refused before they are parsed, and a caller with
access is refused because they cannot be parsed. So the test checks access without running a handler.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

from keyreeve.errors import (
    KeyreeveError,
    PeerCertificateExpired,
    PeerCertificateMissing,
    PeerCertificateNotYetValid,
    PeerIdentityInvalid,
    PeerIssuerUnknown,
    PeerOperatorUnknown,
    PeerTrustDomainWrong,
)
from keyreeve.identity import Role
from keyreeve_chassis.guard.peers import OperatorRecord, PeerVerifier
from keyreeve_chassis.guard.router import Kind, Method, Router
from support.peer_certificates import TRUST_DOMAIN, Hierarchies, Leaf
from support.running import pinned, refused

NO_MESSAGE = b"\xff"
PATHS = {
    Role.CA: "services/ca/one",
    Role.MEMBERSHIP: "services/membership/one",
    Role.CREDENTIALS: "services/credentials/one",
    Role.GATEWAY: "services/gateway/one",
    Role.MEMBER: "members/web.example.test",
    Role.ADMIN: "operators/admin/ann",
    Role.OPERATOR: "operators/operator/olaf",
    Role.AUDITOR: "operators/auditor/ada",
    Role.WORKLOAD: "workloads/billing/api",
}


def operators(trust_domain: str = TRUST_DOMAIN) -> dict[str, OperatorRecord]:
    """Operators' records for the kinds of callers, as a `TrustView` has them."""
    roles = (Role.ADMIN, Role.OPERATOR, Role.AUDITOR)
    later = int((datetime.now(UTC) + timedelta(days=1)).timestamp())
    return {f"spiffe://{trust_domain}/{PATHS[role]}": OperatorRecord("uid", 0) for role in roles} | {
        f"spiffe://{trust_domain}/operators/operator/enrollee": OperatorRecord("uid", later)
    }


@dataclass(frozen=True)
class CallerKind:
    """One kind of caller."""

    name: str
    leaf: Leaf | None
    role: Role | None = None
    """The identity; unset for callers without one."""
    refusal: type[KeyreeveError] | None = None
    """The expected refusal of the other callers, whether or not TLS already refuses them."""
    tls_refuses: bool = False


def caller_kinds(hierarchies: Hierarchies, trust_domain: str = TRUST_DOMAIN) -> list[CallerKind]:
    """Make one caller of each kind."""
    now = datetime.now(UTC).replace(microsecond=0)
    day, admin = timedelta(days=1), f"spiffe://{trust_domain}/{PATHS[Role.ADMIN]}"
    control = hierarchies.control

    def bad(name: str, leaf: Leaf | None, refusal: type[KeyreeveError], *, tls: bool) -> CallerKind:
        return CallerKind(name, leaf, refusal=refusal, tls_refuses=tls)

    expired = control.leaf(uris=[admin], not_before=now - day, not_after=now - timedelta(seconds=1))
    early = control.leaf(uris=[admin], not_before=now + day, not_after=now + 2 * day)
    earlier = control.leaf(uris=[f"spiffe://{trust_domain}/operators/operator/enrollee"])
    other_domain = control.person(PATHS[Role.ADMIN], trust_domain="other.test")
    return [
        *(
            CallerKind(role.value, control.person(path, trust_domain=trust_domain), role)
            for role, path in PATHS.items()
        ),
        bad("none", None, PeerCertificateMissing, tls=True),
        bad("expired", expired, PeerCertificateExpired, tls=True),
        bad("not yet valid", early, PeerCertificateNotYetValid, tls=True),
        bad("wrong trust domain", other_domain, PeerTrustDomainWrong, tls=False),
        bad("wrong CA of the same name", hierarchies.impostor.leaf(uris=[admin]), PeerIssuerUnknown, tls=True),
        bad("estate certificate", hierarchies.estate.leaf(uris=[admin]), PeerIssuerUnknown, tls=True),
        bad("array certificate", hierarchies.array.leaf(uris=[admin]), PeerIssuerUnknown, tls=True),
        # TLS accepts everything the root signed; the guard accepts only certificates of the issuing CAs.
        bad("signed by the root", hierarchies.control_root.leaf(uris=[admin]), PeerIssuerUnknown, tls=False),
        bad("revoked issuing CA", hierarchies.revoked.leaf(uris=[admin]), PeerIssuerUnknown, tls=False),
        bad("DNS name that spells a SPIFFE ID", control.leaf(dns=[admin]), PeerIdentityInvalid, tls=False),
        bad("two URI names", control.leaf(uris=[admin, f"{admin}2"]), PeerIdentityInvalid, tls=False),
        bad("no name but a common name", control.leaf(common_name="admin"), PeerIdentityInvalid, tls=False),
        bad(
            "removed person",
            control.person("operators/admin/gone", trust_domain=trust_domain),
            PeerOperatorUnknown,
            tls=False,
        ),
        bad(
            "another role",
            control.person("operators/admin/olaf", trust_domain=trust_domain),
            PeerOperatorUnknown,
            tls=False,
        ),
        bad("name used again", earlier, PeerOperatorUnknown, tls=False),
        bad("unknown path", control.person("operators/root/eve"), PeerIdentityInvalid, tls=False),
    ]


async def walk(
    address: str, router: Router, hierarchies: Hierarchies, verifier: PeerVerifier, *, service: str = "ca"
) -> int:
    """Check the result of every method for every kind of caller; return the number of checked pairs.

    `router` holds the methods expected at `address`; the server's issuing CA and root must be those of `hierarchies`.
    """
    tried = 0
    for kind in caller_kinds(hierarchies):
        _assert_own_check(kind, verifier)
        async with grpc.aio.secure_channel(
            address, _credentials(kind, hierarchies), options=pinned(service=service)
        ) as channel:
            for method in router.methods.values():
                told = await refused(_call(channel, method))
                _assert_outcome(kind, method, told)
                tried += 1
    return tried


def _assert_own_check(kind: CallerKind, verifier: PeerVerifier) -> None:
    pem = kind.leaf.pem if kind.leaf is not None else None
    if kind.refusal is None:
        assert verifier.verify(pem).role is kind.role, kind.name
        return
    with pytest.raises(kind.refusal):
        verifier.verify(pem)


def _assert_outcome(kind: CallerKind, method: Method, told: Any) -> None:
    pair = f"{kind.name} calls {method.name}: {told}"
    if kind.tls_refuses:
        assert told.code is grpc.StatusCode.UNAVAILABLE, pair
        assert told.reason is None, pair
    elif method.row.anyone or kind.role in method.row.roles:
        assert told.reason == "FIELD_INVALID", pair
    elif kind.refusal is not None:
        assert told.code is grpc.StatusCode.UNAUTHENTICATED, pair
        assert told.reason == kind.refusal.reason, pair
    else:
        assert told.code is grpc.StatusCode.PERMISSION_DENIED, pair
        assert told.reason == "ACCESS_DENIED", pair
        assert told.metadata["allowed"] == ", ".join(sorted(role.value for role in method.row.roles)), pair


def _call(channel: grpc.aio.Channel, method: Method) -> Any:
    match method.kind:
        case Kind.UNARY:
            return channel.unary_unary(method.name)(NO_MESSAGE, timeout=20)
        case Kind.SERVER_STREAM:
            return channel.unary_stream(method.name)(NO_MESSAGE, timeout=20)
        case Kind.CLIENT_STREAM:
            return channel.stream_unary(method.name)(iter([NO_MESSAGE]), timeout=20)
        case Kind.BIDI_STREAM:
            return channel.stream_stream(method.name)(iter([NO_MESSAGE]), timeout=20)


def _credentials(kind: CallerKind, hierarchies: Hierarchies) -> grpc.ChannelCredentials:
    if kind.leaf is None:
        return grpc.ssl_channel_credentials(hierarchies.control_root.pem)
    return grpc.ssl_channel_credentials(hierarchies.control_root.pem, kind.leaf.key_pem, kind.leaf.chain_pem)
