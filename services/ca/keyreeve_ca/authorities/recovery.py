"""Recovery after a long outage: expired issuing CAs are replaced under the same roots.

Every process issues its own serving certificate when it starts, and the local admin socket certifies the first
operator; neither works once the issuing CA of the control hierarchy has expired, and then no RPC client can
authenticate. Recovery is therefore a command of the local admin socket.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.authorities.ca_certificate_plan import standard_issuing
from keyreeve_ca.authorities.service import Authorities, pending_authority
from keyreeve_ca.certificates.lint_gate import lint_findings
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.issuance.snapshot import issuer_of
from keyreeve_ca.ledger.ports import InProcess
from keyreeve_ca.store.ports import Authority, Transaction
from keyreeve_chassis.audit.recording import system_event
from keyreeve_chassis.keys.key_types import KeyType

RESERVE_SECONDS = 86_400
"""A CA that has less of its life left than this is of no more use than one that has expired."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Replacement:
    """A new issuing CA, created because no other of its hierarchy could sign."""

    hierarchy: Hierarchy
    authority: str
    not_after: int
    """In seconds since 1970."""
    root: str
    """The authority that signed it and its predecessors; members that trust it need no change."""
    expired: tuple[str, ...]
    """Those that it replaces; they stay trusted, as far as their validity reaches, and issue no more."""


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What recovery did, and what it could not do."""

    replacements: tuple[Replacement, ...]
    dead_hierarchies: tuple[Hierarchy, ...]
    """Hierarchies whose root has expired too: their members need a new root, distributed by hand."""

    def document(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            "replacements": [{**asdict(one), "expired": list(one.expired)} for one in self.replacements],
            "dead_hierarchies": list(self.dead_hierarchies),
        }


@dataclass(frozen=True)
class Recovery:
    """The recovery use case. It runs while issuance is halted: recovery must not depend on what has failed."""

    authorities: Authorities
    now: Callable[[], int]

    async def run(self) -> RecoveryReport:
        """Replace expired issuing CAs, and make every process check its own certificate.

        Repeated or concurrent runs find nothing left to do. Raises `StoreUnavailable`, and `LintFindings` when a
        replacement would not lint clean.
        """
        store = self.authorities.store
        replacements: list[Replacement] = []
        dead: list[Hierarchy] = []
        for hierarchy in (Hierarchy.CONTROL, Hierarchy.ESTATE):
            known = await store.read(lambda tx: tx.authorities())
            if self._of_use(known, hierarchy, AuthorityKind.INTERMEDIATE):
                continue
            roots = self._of_use(known, hierarchy, AuthorityKind.ROOT)
            if not roots:
                log.error(
                    "no root of the %s hierarchy is valid any more; a new one has to reach all who trust it", hierarchy
                )
                dead.append(hierarchy)
                continue
            made = await self._replace(hierarchy, max(roots, key=lambda a: a.not_after), known)
            if made is not None:
                log.warning("made %s under %s, for %s have expired", made.authority, made.root, list(made.expired))
                replacements.append(made)
        # Followers of the snapshot wake up and renew their own certificates if due.

        def wake(tx: Transaction) -> None:
            tx.bump_config()
            tx.audit.append(
                system_event("recover", self.now(), tuple(("dead_hierarchy", hierarchy.value) for hierarchy in dead))
            )

        await store.write(wake)
        return RecoveryReport(tuple(replacements), tuple(dead))

    async def _replace(self, hierarchy: Hierarchy, root: Authority, known: Sequence[Authority]) -> Replacement | None:
        make, names = self.authorities, {a.authority_id for a in known}
        authority_id = next(i for n in itertools.count(1) if (i := f"{hierarchy}-issuing-{n}") not in names)
        plan = standard_issuing(hierarchy, make.trust_domain, authority_id, KeyType.P256, self.now())
        plan = replace(
            plan,
            not_before=max(plan.not_before, root.not_before),
            not_after=min(plan.not_after, root.not_after),
        )
        key = await asyncio.to_thread(make.keystore.generate, plan.key_type)
        root_key = await make.store.read(lambda tx: tx.key(root.key_id))
        der = await make.certify(
            plan, authority_id, key.spki, root, IssuingSigner(make.keystore.open(root_key)), exemption=InProcess()
        )
        successor = replace(
            pending_authority(
                plan,
                authority_id=authority_id,
                owner="",
                key=key,
                certificate_der=der,
                issuer=root,
                now=self.now(),
            ),
            state=AuthorityState.ACTIVE,
            activated_at=self.now(),
        )
        profiles = await make.store.read(lambda tx: tx.profiles())
        findings = [*await asyncio.to_thread(make.linter.certificate, der)]
        for version in profiles:
            if version.profile.hierarchy is hierarchy:
                findings += await asyncio.to_thread(make.linter.profile, version, issuer_of(successor, make.url))
        if findings:
            raise lint_findings(authority_id, findings)

        def commit(tx: Transaction) -> Replacement | None:
            if self._of_use(tx.authorities(), hierarchy, AuthorityKind.INTERMEDIATE):
                return None  # another replica was quicker
            expired = [
                a
                for a in tx.authorities()
                if _is(a, hierarchy, AuthorityKind.INTERMEDIATE) and a.not_after <= successor.not_after
            ]
            for one in expired:
                tx.update_authority(replace(one, state=AuthorityState.RETIRING, retired_at=self.now()))
            tx.add_key(key)
            tx.add_authority(successor)
            gone = tuple(a.authority_id for a in expired)
            made = (("authority", f"authorities/{authority_id}"), *(("expired", f"authorities/{one}") for one in gone))
            tx.audit.append(system_event("recover", self.now(), made))
            return Replacement(hierarchy, authority_id, successor.not_after, root.authority_id, gone)

        return await make.store.write(commit)

    def _of_use(self, authorities: Sequence[Authority], hierarchy: Hierarchy, kind: AuthorityKind) -> list[Authority]:
        """The authorities that can still sign."""
        until = self.now() + RESERVE_SECONDS
        return [
            a for a in authorities if _is(a, hierarchy, kind) and a.not_before <= self.now() and a.not_after > until
        ]


def _is(authority: Authority, hierarchy: Hierarchy, kind: AuthorityKind) -> bool:
    return authority.hierarchy is hierarchy and authority.kind is kind and authority.state is AuthorityState.ACTIVE
