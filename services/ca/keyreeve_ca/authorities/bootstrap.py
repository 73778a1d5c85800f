"""The first start on an empty database: both hierarchies, the built-in profiles, the keys and first root of the trust metadata.

The intention comes first: the row of the control plane, not yet complete, and the serial blocks of the four CA
certificates. Everything else enters the database in one transaction that also completes the row, so there is never half
a hierarchy: after a start that was killed before it, the next one begins again and the blocks name what might have been
signed. A database that cannot be read, or whose keys the key-encryption key does
not open, stops the process: "cannot tell" never means "first start".
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from keyreeve import errors
from keyreeve.values import AuthorityState, Hierarchy
from keyreeve_ca.authorities.ca_certificate_plan import AuthorityPlan, standard_issuing, standard_root
from keyreeve_ca.authorities.service import Authorities, pending_authority
from keyreeve_ca.certificates.lint_gate import lint_findings
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.issuance.snapshot import issuer_of
from keyreeve_ca.profiles.builtin import builtin_profiles
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.store.ports import Authority, ControlPlaneState, Store, Transaction
from keyreeve_chassis.database.binding import DatabaseBinding
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStore, SealedKey, make_check_value, sealed_from_start, verify_check_value
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.trust_tables.sealing import seal_at_start

BUILT_IN = "built-in"
"""Creator of the profiles that come with the program."""

log = logging.getLogger(__name__)


class FirstTrustMetadata(NamedTuple):
    """The first root of the trust metadata, and the online keys that it names."""

    root: bytes
    keys: tuple[SealedKey, ...]


@dataclass(frozen=True)
class Bootstrap:
    """Creates the control plane once, and checks on every later start that it is the same one."""

    store: Store
    keystore: KeyStore
    authorities: Authorities
    trust_metadata: Callable[[], FirstTrustMetadata]
    now: Callable[[], int]
    trust_domain: str
    binding: DatabaseBinding
    """Told what was made once the intention is in the database, and again on every later start."""
    allowed: bool = True
    """Whether this may be the first start."""

    async def run(self) -> bool:
        """Make or check the control plane; True when it was made. The caller holds the lease that makes it the only one.

        Raises `StartRefused`, and `keystore.KeyStoreError` when the key-encryption key is not the one that sealed the keys.
        """
        control_plane = await self.store.read(lambda tx: tx.control_plane())
        if control_plane is not None:
            self._check(control_plane)
            recalled = self.binding.recall()
            self.binding.remember(control_plane.bound)
            await self._seal(control_plane, ever_sealed=self.binding.ever_sealed(recalled))
        if control_plane is not None and control_plane.bootstrapped_at:
            try:
                await self.store.write(self._renew_built_in_profiles)
            except errors.TrustTableAltered as altered:
                log.error("the built-in profiles stay as they are: %s", altered.message)  # noqa: TRY400
            await self._remember_roots(control_plane)
            return False
        if not self.allowed:
            raise StartRefused(
                "the database holds no control plane, and bootstrap.allowed is false: this would make new roots; name the right "
                "database, or allow it for the first start"
            )
        if control_plane is None:
            intended = ControlPlaneState(
                trust_domain=self.trust_domain,
                restore_generation=1,
                config_version=1,
                key_check=make_check_value(self.keystore, sealed_tables=True),
                bootstrapped_at=0,
            )

            def intend(tx: Transaction) -> None:
                tx.bootstrap_control_plane(intended)
                tx.trust.seal()

            await self.store.write(intend)
            self.binding.remember(intended.bound, sealed=True)
            control_plane = intended
        await self._make()
        await self._remember_roots(control_plane)
        return True

    async def _remember_roots(self, control_plane: ControlPlaneState) -> None:
        """Note the fingerprints of the first roots, for people."""
        authorities = await self.store.read(lambda tx: tx.authorities())
        first = {f"{hierarchy}-root-1" for hierarchy in (Hierarchy.CONTROL, Hierarchy.ESTATE)}
        roots = [
            f"{one.authority_id} SHA-256 {hashlib.sha256(one.certificate_der).hexdigest()}"
            for one in authorities
            if one.authority_id in first
        ]
        self.binding.remember(control_plane.bound, sealed=True, roots=", ".join(sorted(roots)))

    async def _seal(self, control_plane: ControlPlaneState, *, ever_sealed: bool) -> None:
        """Seal trust tables that were never sealed: those of an earlier release, or new ones of this one."""
        ever = ever_sealed or sealed_from_start(self.keystore, control_plane.key_check)
        if await self.store.write(lambda tx: seal_at_start(tx.trust, ever_sealed=ever)):
            log.warning("sealed the trust tables as they are, for the first time")
        self.binding.remember(control_plane.bound, sealed=True)

    def _check(self, control_plane: ControlPlaneState) -> None:
        verify_check_value(self.keystore, control_plane.key_check)
        if control_plane.trust_domain != self.trust_domain:
            raise StartRefused(
                f"this database belongs to the trust domain {control_plane.trust_domain}, and the settings say "
                f"{self.trust_domain}; set trust_domain back, or use another database"
            )

    async def _make(self) -> None:
        now = self.now()
        hierarchies = [await self._hierarchy(hierarchy, now) for hierarchy in (Hierarchy.CONTROL, Hierarchy.ESTATE)]
        made = [member for hierarchy in hierarchies for member in hierarchy]
        versions = self._built_in_versions()
        await asyncio.to_thread(self._lint, [authority for _, authority in made], versions)
        metadata = self.trust_metadata()

        def commit(tx: Transaction) -> None:
            for key in (*(key for key, _ in made), *metadata.keys):
                tx.add_key(key)
            for _, authority in made:
                tx.add_authority(authority)
            for version in versions:
                tx.add_profile_version(version, now, BUILT_IN)
            tx.put_trust_metadata("root", 1, metadata.root)
            tx.complete_bootstrap(now)

        await self.store.write(commit)
        log.info("made the control plane of trust domain %s", self.trust_domain)

    async def _hierarchy(self, hierarchy: Hierarchy, now: int) -> list[tuple[SealedKey, Authority]]:
        root_id, issuing_id = f"{hierarchy}-root-1", f"{hierarchy}-issuing-1"
        root_key, issuing_key = self.keystore.generate(KeyType.P256), self.keystore.generate(KeyType.P256)
        root_plan = standard_root(hierarchy, self.trust_domain, root_id, KeyType.P256, now)
        root = await self._authority(root_plan, root_id, root_key, None, now)
        issuing_plan = standard_issuing(hierarchy, self.trust_domain, issuing_id, KeyType.P256, now)
        issuing = await self._authority(issuing_plan, issuing_id, issuing_key, (root, root_key), now)
        return [(root_key, root), (issuing_key, issuing)]

    async def _authority(
        self,
        plan: AuthorityPlan,
        authority_id: str,
        key: SealedKey,
        above: tuple[Authority, SealedKey] | None,
        now: int,
    ) -> Authority:
        issuer, issuer_key = above if above is not None else (None, key)
        certificate_der = await self.authorities.certify(
            plan, authority_id, key.spki, issuer, IssuingSigner(self.keystore.open(issuer_key))
        )
        pending = pending_authority(
            plan,
            authority_id=authority_id,
            owner="",
            key=key,
            certificate_der=certificate_der,
            issuer=issuer,
            now=now,
        )
        return replace(pending, state=AuthorityState.ACTIVE, activated_at=now)

    def _built_in_versions(self) -> list[ProfileVersion]:
        return [
            ProfileVersion(name, 1, sha256, document, profile)
            for name, (document, sha256, profile) in builtin_profiles(self.trust_domain).items()
        ]

    def _lint(self, authorities: list[Authority], versions: list[ProfileVersion]) -> None:
        linter, url = self.authorities.linter, self.authorities.url
        for authority in authorities:
            if findings := linter.certificate(authority.certificate_der):
                raise lint_findings(authority.authority_id, findings)
            if authority.issuer_id == authority.authority_id:
                continue
            for version in versions:
                if version.profile.hierarchy is authority.hierarchy and (
                    findings := linter.profile(version, issuer_of(authority, url))
                ):
                    raise lint_findings(version.name, findings)

    def _renew_built_in_profiles(self, tx: Transaction) -> None:
        """Store new versions of built-in profiles; an older release changes nothing."""
        changed = False
        for version in self._built_in_versions():
            known = _known_versions(tx, version.name)
            if version.sha256 in {v.sha256 for v in known}:
                continue
            number = max((v.version for v in known), default=0) + 1
            tx.add_profile_version(replace(version, version=number), self.now(), BUILT_IN)
            changed = True
        if changed:
            tx.bump_config()


def _known_versions(tx: Transaction, name: str) -> list[ProfileVersion]:
    try:
        current = tx.profile(name)
    except errors.ProfileNotFound:
        return []
    return [tx.profile(name, number) for number in range(1, current.version + 1)]
