"""What the signing path knows without the database: authorities, opened keys, profiles, templates.

A snapshot belongs to one `config_version` and is replaced whole when that rises: `LiveSnapshot` reads the next one. The
commit gate has the last word on what enters the ledger, so the certificates of a stale worker are refused there.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cryptography import x509

from keyreeve import errors
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy, Name, NameType
from keyreeve_ca.authorities.ca_certificate_plan import NameConstraints, constraints_of
from keyreeve_ca.certificates.final_check import FinalCheck
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.issuance.believed import Believed, vouches
from keyreeve_ca.operators.ports import Operator
from keyreeve_ca.profiles.profile import PEER_CHECK, ProfileVersion
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.store.ports import Authority, Store, Transaction
from keyreeve_chassis.changes.following import follow_changes
from keyreeve_chassis.database.ports import Wait
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.trust_tables.watching import TrustWatch

SNAPSHOT = "snapshot"
"""Topic of this process's own snapshot: it is announced when the new one has been read."""

TRUSTED = frozenset({AuthorityState.ACTIVE, AuthorityState.RETIRING})
"""States in which what an authority has issued is accepted."""
SIGNING = frozenset({AuthorityState.INTRODUCED, AuthorityState.ACTIVE})
"""States in which an authority signs something."""


def issuer_of(authority: Authority, url: str) -> Issuer:
    """The authority as the encoder and the final check need it."""
    return Issuer(
        authority_id=authority.authority_id,
        hierarchy=authority.hierarchy,
        certificate_der=authority.certificate_der,
        key_type=authority.key_type,
        not_before=authority.not_before,
        not_after=authority.not_after,
        url=url,
        introduced=authority.state is AuthorityState.INTRODUCED,
    )


def may_sign_leaves(authority: Authority) -> bool:
    """Whether the authority signs leaves: an issuing CA of a hierarchy, or a standalone CA."""
    return authority.hierarchy is Hierarchy.STANDALONE or authority.kind is AuthorityKind.INTERMEDIATE


@dataclass(frozen=True, slots=True)
class IssuingAuthority:
    """An active or introduced authority that signs leaves."""

    authority: Authority
    issuer: Issuer
    signer: IssuingSigner
    chain_der: tuple[bytes, ...]
    """What a leaf is sent with: the authority itself, unless it is a root."""
    constraints: NameConstraints

    def may_sign(self, version: ProfileVersion) -> bool:
        """Whether its state lets it sign under this profile of its hierarchy."""
        return not self.issuer.introduced or version.name == PEER_CHECK

    def refuse_names_beyond(self, names: Sequence[Name]) -> None:
        """Raise `NameRefused` for names outside the authority's name constraints (RFC 5280, 4.2.1.10).

        A permitted DNS suffix confines the hosts of URIs and e-mail addresses too, and no IP address is below it,
        although the constraint in the certificate is of DNS names alone.
        """
        permitted, excluded = self.constraints.permitted_dns, self.constraints.excluded_dns
        beyond = [
            str(n)
            for n in names
            if (permitted and not _below_any(_host_of(n), permitted))
            or (n.type is NameType.DNS and _below_any(n.value, excluded))
        ]
        if beyond:
            allowed = (
                f"only names below {', '.join(permitted)}" if permitted else f"nothing below {', '.join(excluded)}"
            )
            raise errors.NameRefused(
                f"authority {self.issuer.authority_id!r} may issue {allowed}",
                violations=[
                    errors.Violation("names", f"{name} is outside the authority's name constraints") for name in beyond
                ],
            )


def _host_of(name: Name) -> str:
    """Return the DNS name in a name; empty for an IP address, which is below no suffix."""
    if name.type is NameType.EMAIL:
        return name.value.rpartition("@")[2]
    if name.type is NameType.URI:
        return name.value.partition("://")[2].partition("/")[0]
    return name.value if name.type is NameType.DNS else ""


def _below_any(name: str, suffixes: Sequence[str]) -> bool:
    return any(name == suffix or name.endswith("." + suffix) for suffix in suffixes)


@dataclass(frozen=True, slots=True)
class IssuanceTemplate:
    """The encoder and the final check of one profile version and authority; they share no code."""

    template: Template
    check: FinalCheck


@dataclass(frozen=True, slots=True)
class IssuanceSnapshot:
    """One snapshot of authorities and profiles."""

    trust_domain: str
    restore_generation: int
    config_version: int
    authorities: dict[str, Authority]
    issuing: dict[str, IssuingAuthority]
    profiles: dict[str, ProfileVersion]
    known_keys: KnownKeys
    halted_since: int | None = None
    """When issuance was halted, in seconds since 1970; None while certificates are issued."""
    operators: Mapping[str, Operator] = field(default_factory=dict)
    """Those who may operate the control plane, by identity."""
    vouches: bool = True
    """Whether it says who may call; False when the process has never seen the trust tables whole."""
    _forms: dict[tuple[bytes, str], IssuanceTemplate] = field(default_factory=dict)

    def authority(self, authority_id: str) -> Authority:
        """An authority that the ledger refers to. Raises `StoreUnavailable` while this process lags behind it."""
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
        """The authority that signs: the requested one if it fits the hierarchy, else the newest active one."""
        return self.issuing_authorities(version, wanted)[0]

    def plan_with_issuer(
        self, version: ProfileVersion, wanted: str | None, plan: Callable[[Issuer], CertificatePlan]
    ) -> tuple[IssuingAuthority, CertificatePlan]:
        """Plan with the authority that signs: of several, the newest that may sign the planned names."""
        refusal: errors.KeyreeveError | None = None
        for issuing in self.issuing_authorities(version, wanted):
            planned = plan(issuing.issuer)
            try:
                issuing.refuse_names_beyond(planned.names)
            except errors.NameRefused as refused:
                refusal = refusal or refused
            else:
                return issuing, planned
        assert refusal is not None
        raise refusal

    def issuing_authorities(self, version: ProfileVersion, wanted: str | None) -> list[IssuingAuthority]:
        """The authorities that could sign: the requested one, or the active ones of the hierarchy, newest first."""
        hierarchy = version.profile.hierarchy
        if wanted is not None:
            authority = self.authorities.get(wanted)
            if authority is None:
                raise errors.AuthorityNotFound(f"there is no authority {wanted!r}", metadata={"authority": wanted})
            found = self.issuing.get(wanted)
            if found is None or authority.hierarchy is not hierarchy or not found.may_sign(version):
                raise errors.AuthorityStateWrong(
                    f"authority {wanted!r} ({authority.state}, {authority.hierarchy}) does not issue under profile "
                    f"{version.name!r}, which needs an active issuing authority of {hierarchy}",
                    metadata={"authority": wanted, "state": authority.state, "hierarchy": authority.hierarchy},
                )
            return [found]
        if hierarchy is Hierarchy.STANDALONE:
            raise errors.FieldInvalid(
                f"profile {version.name!r} is for stand-alone authorities, so the request must name one",
                violations=[errors.Violation("authority", "required for this profile")],
            )
        candidates = [a for a in self.issuing.values() if a.authority.hierarchy is hierarchy]
        if not candidates:
            raise errors.NoActiveAuthority(
                f"no authority of the {hierarchy} hierarchy is active", metadata={"hierarchy": hierarchy}
            )
        return sorted(candidates, key=lambda a: (a.authority.activated_at or 0, a.authority.authority_id), reverse=True)

    def issuance_template(self, version: ProfileVersion, issuing: IssuingAuthority) -> IssuanceTemplate:
        """The encoder and final check of a profile and authority; created once."""
        key = (version.sha256, issuing.issuer.authority_id)
        issuance_template = self._forms.get(key)
        if issuance_template is None:
            issuance_template = self._forms[key] = IssuanceTemplate(
                Template(version, issuing.issuer), FinalCheck(version, issuing.issuer, self.trust_domain)
            )
        return issuance_template

    def profile_hashes(self, issuing: IssuingAuthority) -> frozenset[bytes]:
        """Hashes of the profile versions that a serial block of this authority pins.

        Halted profiles are left out: a block with one of them could not be leased.
        """
        return frozenset(
            v.sha256
            for v in self.profiles.values()
            if v.profile.hierarchy is issuing.issuer.hierarchy and not v.halted and issuing.may_sign(v)
        )

    def roots(self, hierarchy: Hierarchy) -> tuple[Authority, ...]:
        """The trusted roots of a hierarchy, sorted by their bytes."""
        trusted = [
            a
            for a in self.authorities.values()
            if a.hierarchy is hierarchy and a.kind is AuthorityKind.ROOT and a.state in TRUSTED
        ]
        return tuple(sorted(trusted, key=lambda a: a.certificate_der))

    def enrollment_root(self) -> bytes:
        """DER of the root of the enrollment listener: that of the newest active control CA."""
        issuing = self.issuing_authority(self.profile("enrollment"), None)
        return self.authority(issuing.authority.issuer_id).certificate_der

    def control_issuers(self) -> tuple[x509.Certificate, ...]:
        """The issuing CAs whose leaves our listeners accept: trusted, under a trusted root."""
        if not self.vouches:
            return ()
        roots = {a.authority_id for a in self.roots(Hierarchy.CONTROL)}
        return tuple(
            x509.load_der_x509_certificate(a.certificate_der)
            for a in self.authorities.values()
            if a.hierarchy is Hierarchy.CONTROL
            and a.kind is AuthorityKind.INTERMEDIATE
            and a.state in TRUSTED
            and a.issuer_id in roots
        )


def bundle_digest(roots: Sequence[Authority]) -> bytes:
    """SHA-256 over the roots' DER, in the order of `IssuanceSnapshot.roots`."""
    return hashlib.sha256(b"".join(a.certificate_der for a in roots)).digest()


def load_snapshot(
    tx: Transaction,
    keystore: KeyStore,
    *,
    url: str,
    blocked: frozenset[bytes],
    watch: TrustWatch,
    before: IssuanceSnapshot | None = None,
) -> IssuanceSnapshot:
    """Read a snapshot and open the keys of the authorities that sign leaves.

    Rows of trust tables that something else has changed stay as they were in the snapshot `before`, or are left out.

    Keys that the snapshot `before` has open are reused, because checking a large RSA key takes up to 0.25 s. Raises
    `keyreeve_chassis.keys.ports.KeyStoreError` when a key does not open; the process must then stop.
    """
    try:
        return _read_snapshot(tx, keystore, url=url, blocked=blocked, watch=watch, before=before)
    except (ValueError, LookupError):
        # A row that another party wrote need not even be readable. What was known goes on; nothing is issued.
        control_plane = tx.control_plane()
        if before is None or not watch.found or control_plane is None:
            raise
        return replace(
            before, restore_generation=control_plane.restore_generation, config_version=control_plane.config_version
        )


def _read_snapshot(
    tx: Transaction,
    keystore: KeyStore,
    *,
    url: str,
    blocked: frozenset[bytes],
    watch: TrustWatch,
    before: IssuanceSnapshot | None,
) -> IssuanceSnapshot:
    control_plane = tx.control_plane()
    if control_plane is None or not control_plane.bootstrapped_at:
        raise errors.StoreUnavailable("the control plane has not been bootstrapped yet")
    believed = Believed(watch.look(tx))
    halt = tx.halt.state()
    authorities = believed.rows(
        "authorities", {a.authority_id: a for a in tx.authorities()}, {} if before is None else before.authorities
    )
    issuing = {}
    for authority in authorities.values():
        if authority.state not in SIGNING or not may_sign_leaves(authority):
            continue
        known = before.issuing.get(authority.authority_id) if before is not None else None
        if known is not None and known.authority == authority:
            issuing[authority.authority_id] = known
            continue
        signer = IssuingSigner(keystore.open(tx.key(authority.key_id)))
        chain = () if authority.kind is AuthorityKind.ROOT else (authority.certificate_der,)
        constraints = constraints_of(x509.load_der_x509_certificate(authority.certificate_der))
        issuing[authority.authority_id] = IssuingAuthority(
            authority, issuer_of(authority, url), signer, chain, constraints
        )
    return IssuanceSnapshot(
        trust_domain=control_plane.trust_domain,
        restore_generation=control_plane.restore_generation,
        config_version=control_plane.config_version,
        authorities=authorities,
        issuing=issuing,
        profiles=believed.profiles(tx.profiles(), {} if before is None else before.profiles),
        halted_since=halt.halted_at if halt.halted else None,
        operators={
            str(person.identity(control_plane.trust_domain)): person
            for person in believed.operators(tx.operators.active(), () if before is None else before.operators.values())
        },
        vouches=vouches(watch.found, before=before is not None and before.vouches),
        known_keys=KnownKeys(
            blocked=blocked | tx.blocked_keys.all(), own=frozenset(a.spki_sha256 for a in authorities.values())
        ),
    )


class LiveSnapshot:
    """Holds the newest snapshot. `load` gets the previous one and runs in the store's threads."""

    def __init__(self, store: Store, load: Callable[[Transaction, IssuanceSnapshot | None], IssuanceSnapshot]) -> None:
        self._store = store
        self._load = load
        self._current: IssuanceSnapshot | None = None
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    def current(self) -> IssuanceSnapshot:
        """The newest snapshot; call `reload` once before."""
        assert self._current is not None, "the snapshot is read before anything is served"
        return self._current

    async def reload(self) -> None:
        """Load a new snapshot; concurrent callers share one load."""
        if self._next is None:
            self._next = asyncio.create_task(self._read_next())
        await asyncio.shield(self._next)

    async def _read_next(self) -> None:
        async with self._reading:
            self._next = None  # later callers may know of a newer version than this load reads
            self._current = await self._store.read(lambda tx: self._load(tx, self._current))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed_since(self, config_version: int) -> None:
        """Return once the version is no longer the given one."""
        while self.current().config_version == config_version:
            await self._changed.wait()

    async def follow(self, wait: Wait) -> None:
        """Reload whenever the configuration version or the restore generation changes, forever.

        An error other than an unreachable database ends this job, and with it the process: its snapshot would go stale
        unnoticed.
        """
        await follow_changes("the snapshot", wait, self.refresh)

    async def refresh(self) -> None:
        """Reload if the configuration version or the restore generation has changed. Raises `StoreUnavailable`."""
        control_plane = await self._store.read(lambda tx: tx.control_plane(), one_statement=True)
        known = self.current()
        if control_plane is not None and (control_plane.config_version, control_plane.restore_generation) != (
            known.config_version,
            known.restore_generation,
        ):
            await self.reload()
