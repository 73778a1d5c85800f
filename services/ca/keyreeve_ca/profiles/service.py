"""Profiles: immutable versions, linted before use, and simulated on issued certificates."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyreeve import errors
from keyreeve.values import AuthorityState, Name, NameType
from keyreeve_ca.certificates.lint_gate import Linter, when_lint_clean
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.issuance.policy import plan_certificate
from keyreeve_ca.issuance.renewal import as_renewal, names_of_certificate
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, issuer_of, may_sign_leaves
from keyreeve_ca.profiles.document import read_profile
from keyreeve_ca.profiles.profile import ExtendedKeyUsage, KeyUsage, ProfileVersion
from keyreeve_ca.requests.csr import read_csr
from keyreeve_ca.store.ports import Authority, Store, StoredCertificate, Transaction
from keyreeve_chassis.idempotency.ports import Commit

R = TypeVar("R")

_PURPOSES = {
    ExtendedKeyUsage.SERVER_AUTH: ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsage.CLIENT_AUTH: ExtendedKeyUsageOID.CLIENT_AUTH,
}
_PROFILE_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Difference:
    """One issuance that would differ under another document; a refusal has a reason."""

    serial: bytes
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the last issuances would have been."""

    examined: int
    same: int
    different: int
    refused: int
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Profiles:
    """The use cases of ProfileService."""

    store: Store
    linter: Linter
    now: Callable[[], int]
    trust_domain: str
    url: str
    built_in: frozenset[str]
    """Names that only a release may change."""

    async def create(
        self, profile_id: str, document: str, created_by: str, commit: Commit[Transaction, ProfileVersion, R]
    ) -> R:
        """Make version 1 of a profile. Raises `ProfileExists`, `ProfileInvalid`, `LintFindings`."""
        if not _PROFILE_ID.match(profile_id):
            raise errors.FieldInvalid(
                f"{profile_id!r} is not a profile id",
                violations=[
                    errors.Violation(
                        "profile_id", "1-63 lower-case letters, digits and hyphens, beginning with a letter"
                    )
                ],
            )
        version = self._version(profile_id, 1, document)

        def act(tx: Transaction) -> ProfileVersion:
            tx.add_profile_version(version, self.now(), created_by)
            tx.bump_config()
            return tx.profile(profile_id)

        return await self._linted(version, commit, act)

    async def update(
        self,
        name: str,
        read_version: int,
        document: str,
        created_by: str,
        commit: Commit[Transaction, ProfileVersion, R],
    ) -> R:
        """Create a new version.

        `read_version` is the version that the caller's document is based on; 0 skips the check.
        """
        if name in self.built_in:
            raise errors.ProfileInvalid(
                f"profile {name!r} came with the program and changes with its releases; make one of your own",
                violations=[errors.Violation("profile.name", "built in")],
            )
        current = await self.store.read(lambda tx: tx.profile(name))
        if read_version not in (0, current.version):
            raise errors.ProfileVersionStale(
                f"profile {name!r} is at version {current.version}, not {read_version}",
                metadata={"version": str(current.version)},
            )
        version = self._version(name, current.version + 1, document)

        def act(tx: Transaction) -> ProfileVersion:
            if tx.profile(name).version != current.version:
                raise errors.ProfileVersionStale(
                    f"profile {name!r} has been changed at the same time by another caller"
                )
            if version.sha256 == current.sha256:
                return current
            tx.add_profile_version(version, self.now(), created_by)
            tx.bump_config()
            return tx.profile(name)

        return await self._linted(version, commit, act)

    async def _linted(
        self,
        version: ProfileVersion,
        commit: Commit[Transaction, ProfileVersion, R],
        act: Callable[[Transaction], ProfileVersion],
    ) -> R:
        """Act once the version lints clean with every authority that could issue under it."""

        def lint(authorities: Sequence[Authority], _profiles: Sequence[ProfileVersion]) -> list[str]:
            return [
                f"{authority.authority_id}: {finding}"
                for authority in authorities
                if authority.state is AuthorityState.ACTIVE
                and authority.hierarchy is version.profile.hierarchy
                and may_sign_leaves(authority)
                for finding in self.linter.profile(version, issuer_of(authority, self.url))
            ]

        return await when_lint_clean(self.store, lint, version.name, commit, act)

    def _version(self, name: str, number: int, document: str) -> ProfileVersion:
        canonical, sha256, profile = read_profile(document, self.trust_domain)
        return ProfileVersion(name, number, sha256, canonical, profile)

    async def simulate(self, name: str, document: str, sample_size: int, snapshot: IssuanceSnapshot) -> Simulation:
        """Compare the last `sample_size` issuances under a profile with those under a document."""
        sample = await self.store.read(lambda tx: (tx.profile(name), tx.newest_certificates(name, sample_size))[1])
        version = self._version(name, 1, document)
        return await asyncio.to_thread(_simulate, sample, version, snapshot, self.url)


def _simulate(
    sample: Sequence[StoredCertificate], version: ProfileVersion, snapshot: IssuanceSnapshot, url: str
) -> Simulation:
    same = refused = 0
    differences = []
    for issued in sample:
        try:
            message = _differs(issued, version, issuer_of(snapshot.authorities[issued.authority_id], url), snapshot)
        except errors.KeyreeveError as refusal:
            refused += 1
            differences.append(Difference(issued.serial, refusal.reason, refusal.message))
            continue
        if message:
            differences.append(Difference(issued.serial, "", message))
        else:
            same += 1
    return Simulation(len(sample), same, len(differences) - refused, refused, tuple(differences[:100]))


def _differs(issued: StoredCertificate, version: ProfileVersion, issuer: Issuer, snapshot: IssuanceSnapshot) -> str:
    """Describe the differences; empty when only serial number, times and key identifiers differ."""
    csr = read_csr(issued.csr)
    if issued.renews is not None:
        csr = as_renewal(csr, issued.der)
    asked = [Name(NameType(type_), value) for type_, value in json.loads(issued.requested_sans)]
    plan = plan_certificate(
        version,
        csr,
        extra_names=asked,
        common_name=issued.requested_common_name,
        lifetime=None
        if issued.requested_lifetime_seconds is None
        else timedelta(seconds=issued.requested_lifetime_seconds),
        now=issued.issued_at,
        issuer=issuer,
        trust_domain=snapshot.trust_domain,
        known=snapshot.known_keys,
    )
    return "; ".join(_differences(x509.load_der_x509_certificate(issued.der), plan))


def _differences(issued: x509.Certificate, plan: CertificatePlan) -> list[str]:
    new = plan.profile.profile
    before = int((issued.not_valid_after_utc - issued.not_valid_before_utc).total_seconds()) + 1
    common_names = [str(a.value) for a in issued.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    usage = issued.extensions.get_extension_for_class(x509.KeyUsage).value
    purposes = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    old_usages = {u for u in KeyUsage if getattr(usage, u.value)}
    new_usages = {u for u in new.key_usage if u is not KeyUsage.KEY_ENCIPHERMENT or plan.key_type.is_rsa}
    pairs = {
        "names": (names_of_certificate(issued), plan.names),
        "subject": (
            [str(a.value) for a in issued.subject if a.oid != NameOID.COMMON_NAME],
            [text for _, text in plan.attributes],
        ),
        "common name": (common_names, [plan.common_name] if plan.common_name else []),
        "lifetime in seconds": ([before], [plan.not_after - plan.not_before + 1]),
        "key usage": (sorted(old_usages), sorted(new_usages)),
        "purposes": (
            sorted(u for u in ExtendedKeyUsage if _PURPOSES[u] in purposes),
            sorted(new.extended_key_usage),
        ),
    }
    return [f"{what}: {_listed(old)} -> {_listed(now)}" for what, (old, now) in pairs.items() if list(old) != list(now)]


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "none"
