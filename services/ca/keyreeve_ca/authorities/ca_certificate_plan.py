"""Plans of CA certificates, and the rules that a plan must keep."""

import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from keyreeve.errors import AuthorityRefused
from keyreeve.identity import reserved_dns_suffixes
from keyreeve.values import Hierarchy
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_chassis.keys.key_types import KeyType

AUTHORITY_KEY_TYPES = frozenset({KeyType.P256, KeyType.P384, KeyType.RSA3072, KeyType.RSA4096, KeyType.ED25519})
ROOT_LIFETIME = timedelta(days=3650)
ISSUING_LIFETIME = timedelta(days=730)
"""Of the issuing CAs of both hierarchies: long against the leaves' 30 days, short enough that rotating them stays a habit."""
AUTHORITY_BACKDATE = timedelta(minutes=5)

_DNS_CONSTRAINT = re.compile(
    r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z"
)
_NAME_TEXT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._~:/()-]{0,62}[A-Za-z0-9)])?\Z")


@dataclass(frozen=True, slots=True)
class NameConstraints:
    """Name constraints of a CA (RFC 5280, 4.2.1.10), for the two types that this CA supports.

    A DNS constraint covers the name itself and everything below it. A URI constraint is compared with the URI's host:
    `example.test` is this host alone, `.example.test` every host below it.
    """

    permitted_dns: tuple[str, ...] = ()
    excluded_dns: tuple[str, ...] = ()
    permitted_uri: tuple[str, ...] = ()
    excluded_uri: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorityPlan:
    """Everything in a new CA certificate that the issuer does not decide. Times as in `CertificatePlan`."""

    hierarchy: Hierarchy
    common_name: str
    organization: str | None
    key_type: KeyType
    not_before: int
    not_after: int
    path_length: int
    """How many further CAs may stand between this one and a leaf."""
    constraints: NameConstraints = NameConstraints()


def standard_root(
    hierarchy: Hierarchy, trust_domain: str, authority_id: str, key_type: KeyType, now: int
) -> AuthorityPlan:
    """Plan the root of one of the two hierarchies: ten years, one level of issuing CAs below it."""
    return AuthorityPlan(
        hierarchy,
        f"Keyreeve {authority_id}",
        organization_of(trust_domain),
        key_type,
        *_validity(now, ROOT_LIFETIME),
        path_length=1,
    )


def standard_issuing(
    hierarchy: Hierarchy, trust_domain: str, authority_id: str, key_type: KeyType, now: int
) -> AuthorityPlan:
    """Plan the issuing CA of one of the two hierarchies: two years, no CA below it.

    The estate's may issue no name that our own clients pin. Neither hierarchy constrains URIs, although gRPC's BoringSSL,
    OpenSSL and Go would enforce it on SPIFFE IDs: rustls (since webpki 0.103.12, RUSTSEC-2026-0098) refuses every chain
    that holds a URI constraint, and `cryptography`'s verifier every one where it meets a URI name, so that callers
    written in Rust or Python would be locked out. The final check keeps the hierarchies' URIs apart instead.
    """
    excluded = reserved_dns_suffixes(trust_domain) if hierarchy is Hierarchy.ESTATE else ()
    return AuthorityPlan(
        hierarchy,
        f"Keyreeve {authority_id}",
        organization_of(trust_domain),
        key_type,
        *_validity(now, ISSUING_LIFETIME),
        path_length=0,
        constraints=NameConstraints(excluded_dns=excluded),
    )


def organization_of(trust_domain: str) -> str:
    """The O of our CAs: the trust domain, or its SHA-256 in hex when it exceeds the 64 characters of RFC 5280, A.1."""
    return trust_domain if len(trust_domain) <= 64 else sha256(trust_domain.encode()).hexdigest()


def refuse_unsound(plan: AuthorityPlan, spki: bytes, issuer: Issuer | None) -> None:
    """Raise `AuthorityRefused` unless the plan is sound and its issuer may sign all of it."""
    if plan.key_type not in AUTHORITY_KEY_TYPES:
        raise AuthorityRefused(
            f"an authority's key is one of {', '.join(sorted(AUTHORITY_KEY_TYPES))}, not {plan.key_type}"
        )
    for text in (plan.common_name, *(() if plan.organization is None else (plan.organization,))):
        if not _NAME_TEXT.match(text):
            raise AuthorityRefused(f"{text!r} cannot be part of an authority's name: 1 to 64 plain ASCII characters")
    if not 0 <= plan.not_before < plan.not_after:
        raise AuthorityRefused("the authority would expire before it is valid")
    if not 0 <= plan.path_length <= 5:
        raise AuthorityRefused("an authority's path length is between 0 and 5")
    _refuse_bad_constraints(plan.constraints)
    if issuer is not None:
        _refuse_beyond_issuer(plan, spki, issuer)


def _refuse_bad_constraints(constraints: NameConstraints) -> None:
    uris = [host.removeprefix(".") for host in constraints.permitted_uri + constraints.excluded_uri]
    for name in (*constraints.permitted_dns, *constraints.excluded_dns, *uris):
        if not _DNS_CONSTRAINT.match(name):
            raise AuthorityRefused(f"{name!r} is not a lower-case DNS name, so it cannot constrain any")


def _refuse_beyond_issuer(plan: AuthorityPlan, spki: bytes, issuer: Issuer) -> None:
    certificate = x509.load_der_x509_certificate(issuer.certificate_der)
    extensions = certificate.extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    if not basic.ca or not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
        raise AuthorityRefused(f"{issuer.authority_id} is not a CA that may sign certificates")
    if basic.path_length is not None and plan.path_length >= basic.path_length:
        raise AuthorityRefused(
            f"{issuer.authority_id} has path length {basic.path_length}, so the path length of a CA below it must be smaller"
        )
    if plan.hierarchy is not issuer.hierarchy:
        raise AuthorityRefused(
            f"an authority of the hierarchy {plan.hierarchy} cannot stand below one of {issuer.hierarchy}"
        )
    if not issuer.not_before <= plan.not_before < plan.not_after <= issuer.not_after:
        raise AuthorityRefused(f"the authority would be valid when {issuer.authority_id} is not")
    if name_of(plan) in {certificate.subject, certificate.issuer}:
        raise AuthorityRefused("the authority's name is that of an authority above it; chains through it would loop")
    if sha256(spki).digest() == sha256(spki_of(certificate)).digest():
        raise AuthorityRefused("the authority's key is that of its issuer")
    _refuse_wider_names(plan.constraints, constraints_of(certificate), issuer.authority_id)


def constraints_of(certificate: x509.Certificate) -> NameConstraints:
    """Read a CA's name constraints.

    Raises `AuthorityRefused` for constraint types that this CA cannot enforce.
    """
    try:
        value = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return NameConstraints()

    def of_type(
        subtrees: list[x509.GeneralName] | None, kind: type[x509.DNSName | x509.UniformResourceIdentifier]
    ) -> tuple[str, ...]:
        return tuple(subtree.value for subtree in subtrees or () if isinstance(subtree, kind))

    for subtree in (*(value.permitted_subtrees or ()), *(value.excluded_subtrees or ())):
        if not isinstance(subtree, x509.DNSName | x509.UniformResourceIdentifier):
            raise AuthorityRefused("the issuer constrains names of a type that this CA cannot keep to")
    return NameConstraints(
        of_type(value.permitted_subtrees, x509.DNSName),
        of_type(value.excluded_subtrees, x509.DNSName),
        of_type(value.permitted_subtrees, x509.UniformResourceIdentifier),
        of_type(value.excluded_subtrees, x509.UniformResourceIdentifier),
    )


def name_of(plan: AuthorityPlan) -> x509.Name:
    """Return the authority's subject: organization, then common name."""
    organization = (
        [] if plan.organization is None else [x509.NameAttribute(NameOID.ORGANIZATION_NAME, plan.organization)]
    )
    return x509.Name([*organization, x509.NameAttribute(NameOID.COMMON_NAME, plan.common_name)])


def _refuse_wider_names(below: NameConstraints, above: NameConstraints, issuer_id: str) -> None:
    """Raise unless the new constraints lie within the issuer's.

    A CA certificate repeats the constraints of its issuers, so that it shows all of them by itself.
    """
    for permitted, limit, covers in (
        (below.permitted_dns, above.permitted_dns, _dns_covers),
        (below.permitted_uri, above.permitted_uri, _uri_covers),
    ):
        if limit and not permitted:
            raise AuthorityRefused(
                f"{issuer_id} permits only {', '.join(limit)}; a CA below it must say which of these"
            )
        for name in permitted if limit else ():
            if not any(covers(outer, name) for outer in limit):
                raise AuthorityRefused(
                    f"{issuer_id} permits only {', '.join(limit)}, so a CA below it cannot permit {name}"
                )
    for excluded, limit, covers in (
        (below.excluded_dns, above.excluded_dns, _dns_covers),
        (below.excluded_uri, above.excluded_uri, _uri_covers),
    ):
        for name in limit:
            if not any(covers(outer, name) for outer in excluded):
                raise AuthorityRefused(f"{issuer_id} excludes {name}, so a CA below it must exclude it too")


def _dns_covers(outer: str, inner: str) -> bool:
    return inner == outer or inner.endswith("." + outer)


def _uri_covers(outer: str, inner: str) -> bool:
    return inner == outer or (outer.startswith(".") and inner.endswith(outer))


def spki_of(certificate: x509.Certificate) -> bytes:
    """Return the certified key as DER SubjectPublicKeyInfo."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _validity(now: int, lifetime: timedelta) -> tuple[int, int]:
    not_before = now - int(AUTHORITY_BACKDATE.total_seconds())
    return not_before, not_before + int(lifetime.total_seconds()) - 1
