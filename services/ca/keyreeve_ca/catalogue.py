"""What the signing path knows without asking the database: authorities with their keys opened, profiles, templates.

A catalogue is a snapshot of one `config_version`. It is replaced whole when the version rises; the commit gate, not the
catalogue, has the last word on what may enter the ledger, so a worker that is late signs in vain and never wrongly.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from keyreeve import errors
from keyreeve_ca.building.authority_plan import NameConstraints, constraints_of
from keyreeve_ca.building.final_check import FinalCheck
from keyreeve_ca.building.template import Template
from keyreeve_ca.keystore import KeyStore, Signer
from keyreeve_ca.people_records import Person
from keyreeve_ca.registry import Authority, AuthorityKind, AuthorityState, Transaction
from keyreeve_ca.rules.keys import KnownKeys
from keyreeve_ca.rules.name import Name, NameType
from keyreeve_ca.rules.plan import Issuer
from keyreeve_ca.rules.profile import ProfileVersion, Tree

TRUSTED = frozenset({AuthorityState.ACTIVE, AuthorityState.RETIRING})
"""States in which what an authority has issued is accepted."""


def issuer_of(authority: Authority, url: str) -> Issuer:
    """The authority as the builder and the final check see it."""
    return Issuer(
        authority_id=authority.authority_id,
        tree=authority.tree,
        certificate_der=authority.certificate_der,
        key_type=authority.key_type,
        not_before=authority.not_before,
        not_after=authority.not_after,
        url=url,
    )


def may_sign_leaves(authority: Authority) -> bool:
    """Whether it is of the kind that signs leaves: an issuing CA of a tree, or a CA that stands alone."""
    return authority.tree is Tree.STANDALONE or authority.kind is AuthorityKind.INTERMEDIATE


@dataclass(frozen=True, slots=True)
class IssuingAuthority:
    """An active authority that signs leaves."""

    authority: Authority
    issuer: Issuer
    signer: Signer
    chain_der: tuple[bytes, ...]
    """What a leaf is sent with: the authority itself, unless it is a root."""
    constraints: NameConstraints

    def refuse_names_beyond(self, names: Sequence[Name]) -> None:
        """Raise `NameRefused` for DNS names that the authority's own name constraints keep it from (RFC 5280, 4.2.1.10)."""
        permitted, excluded = self.constraints.permitted_dns, self.constraints.excluded_dns
        beyond = [
            n.value
            for n in names
            if n.type is NameType.DNS
            and ((permitted and not _below_any(n.value, permitted)) or _below_any(n.value, excluded))
        ]
        if beyond:
            allowed = (
                f"only names below {', '.join(permitted)}" if permitted else f"nothing below {', '.join(excluded)}"
            )
            raise errors.NameRefused(
                f"authority {self.issuer.authority_id!r} may issue {allowed}",
                violations=[
                    errors.Violation("names", f"dns:{name} is outside the authority's name constraints")
                    for name in beyond
                ],
            )


def _below_any(name: str, suffixes: Sequence[str]) -> bool:
    return any(name == suffix or name.endswith("." + suffix) for suffix in suffixes)


@dataclass(frozen=True, slots=True)
class Form:
    """The builder and the checker of one profile version and authority; they share no code."""

    template: Template
    check: FinalCheck


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One snapshot of authorities and profiles."""

    trust_domain: str
    incarnation: int
    config_version: int
    authorities: dict[str, Authority]
    issuing: dict[str, IssuingAuthority]
    profiles: dict[str, ProfileVersion]
    known_keys: KnownKeys
    halted_since: int | None = None
    """When issuance was halted, in seconds since 1970; None while certificates are issued."""
    people: Mapping[str, Person] = field(default_factory=dict)
    """Those who may operate the control plane, by identity."""
    _forms: dict[tuple[bytes, str], Form] = field(default_factory=dict)

    def authority(self, authority_id: str) -> Authority:
        """An authority that something in the ledger refers to; `StoreUnavailable` while this process lags behind it."""
        try:
            return self.authorities[authority_id]
        except KeyError:
            raise errors.StoreUnavailable(f"this process has not yet heard of authority {authority_id!r}") from None

    def profile(self, name: str) -> ProfileVersion:
        """The current version of a profile."""
        try:
            return self.profiles[name]
        except KeyError:
            raise errors.ProfileNotFound(f"there is no profile {name!r}", metadata={"profile": name}) from None

    def issuing_authority(self, version: ProfileVersion, wanted: str | None) -> IssuingAuthority:
        """The authority that signs: the wanted one if it fits the profile's tree, else the newest active one there."""
        tree = version.profile.tree
        if wanted is not None:
            authority = self.authorities.get(wanted)
            if authority is None:
                raise errors.AuthorityNotFound(f"there is no authority {wanted!r}", metadata={"authority": wanted})
            found = self.issuing.get(wanted)
            if found is None or authority.tree is not tree:
                raise errors.AuthorityStateWrong(
                    f"authority {wanted!r} ({authority.state}, {authority.tree}) does not issue under profile "
                    f"{version.name!r}, which needs an active issuing authority of {tree}",
                    metadata={"authority": wanted, "state": authority.state, "tree": authority.tree},
                )
            return found
        if tree is Tree.STANDALONE:
            raise errors.FieldInvalid(
                f"profile {version.name!r} is for stand-alone authorities, so the request must name one",
                violations=[errors.Violation("authority", "required for this profile")],
            )
        candidates = [a for a in self.issuing.values() if a.authority.tree is tree]
        if not candidates:
            raise errors.NoActiveAuthority(f"no authority of the {tree} tree is active", metadata={"tree": tree})
        return max(candidates, key=lambda a: (a.authority.activated_at or 0, a.authority.authority_id))

    def form(self, version: ProfileVersion, issuing: IssuingAuthority) -> Form:
        """How certificates of this profile from this authority are built and checked, made once."""
        key = (version.sha256, issuing.issuer.authority_id)
        form = self._forms.get(key)
        if form is None:
            form = self._forms[key] = Form(
                Template(version, issuing.issuer), FinalCheck(version, issuing.issuer, self.trust_domain)
            )
        return form

    def profile_hashes(self, tree: Tree) -> frozenset[bytes]:
        """Hashes of the profile versions that an authority of a tree issues under; a serial block pins them.

        Without those that are halted: no block could be leased for them, and the other profiles go on.
        """
        return frozenset(v.sha256 for v in self.profiles.values() if v.profile.tree is tree and not v.halted)

    def roots(self, tree: Tree) -> tuple[Authority, ...]:
        """The trusted roots of a tree, sorted by their bytes."""
        trusted = [
            a
            for a in self.authorities.values()
            if a.tree is tree and a.kind is AuthorityKind.ROOT and a.state in TRUSTED
        ]
        return tuple(sorted(trusted, key=lambda a: a.certificate_der))

    def control_issuers(self) -> tuple[x509.Certificate, ...]:
        """The issuing CAs whose leaves our own listeners accept: trusted themselves, under a trusted root."""
        roots = {a.authority_id for a in self.roots(Tree.CONTROL)}
        return tuple(
            x509.load_der_x509_certificate(a.certificate_der)
            for a in self.authorities.values()
            if a.tree is Tree.CONTROL
            and a.kind is AuthorityKind.INTERMEDIATE
            and a.state in TRUSTED
            and a.issuer_id in roots
        )


def bundle_digest(roots: Sequence[Authority]) -> bytes:
    """SHA-256 over the roots' DER, in the order of `Catalogue.roots`."""
    return hashlib.sha256(b"".join(a.certificate_der for a in roots)).digest()


def load_catalogue(
    tx: Transaction, keystore: KeyStore, *, url: str, blocked: frozenset[bytes], before: Catalogue | None = None
) -> Catalogue:
    """Read a snapshot and open the keys of the authorities that sign leaves.

    Keys that the catalogue `before` has open are not opened anew: checking a large RSA key takes a good part of a second.
    Raises `keyreeve_ca.keystore.KeyStoreError` when a key does not open: that must stop the process, not be worked around.
    """
    plane = tx.plane()
    if plane is None or not plane.bootstrapped_at:
        raise errors.StoreUnavailable("the control plane has not been bootstrapped yet")
    halt = tx.halt.state()
    authorities = {a.authority_id: a for a in tx.authorities()}
    issuing = {}
    for authority in authorities.values():
        if authority.state is not AuthorityState.ACTIVE or not may_sign_leaves(authority):
            continue
        known = before.issuing.get(authority.authority_id) if before is not None else None
        if known is not None and known.authority == authority:
            issuing[authority.authority_id] = known
            continue
        signer = keystore.open(tx.key(authority.key_id))
        chain = () if authority.kind is AuthorityKind.ROOT else (authority.certificate_der,)
        constraints = constraints_of(x509.load_der_x509_certificate(authority.certificate_der))
        issuing[authority.authority_id] = IssuingAuthority(
            authority, issuer_of(authority, url), signer, chain, constraints
        )
    return Catalogue(
        trust_domain=plane.trust_domain,
        incarnation=plane.incarnation,
        config_version=plane.config_version,
        authorities=authorities,
        issuing=issuing,
        profiles={v.name: v for v in tx.profiles()},
        halted_since=halt.halted_at if halt.halted else None,
        people={str(person.identity(plane.trust_domain)): person for person in tx.people.active()},
        known_keys=KnownKeys(blocked=blocked, own=frozenset(a.spki_sha256 for a in authorities.values())),
    )
