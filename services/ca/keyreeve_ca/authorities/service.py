"""Authorities: made, activated, retired, revoked. States and transitions: docs/authorities.md.

A CA certificate follows the order of the signing path: its serial number is on disk before the signature exists, and it
is in the database before anyone hears of it. What takes long (making a key, linting) happens outside the transaction;
the transaction then checks that what it was based on still holds.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509

from keyreeve import errors
from keyreeve.durations import in_words
from keyreeve.identity import reserved_dns_suffixes
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.arrays.orders import check_order, follow_order
from keyreeve_ca.arrays.ports import Order
from keyreeve_ca.authorities.ca_certificate import issue_authority
from keyreeve_ca.authorities.ca_certificate_plan import (
    AUTHORITY_BACKDATE,
    ISSUING_LIFETIME,
    ROOT_LIFETIME,
    AuthorityPlan,
    NameConstraints,
    organization_of,
    refuse_unsound,
)
from keyreeve_ca.certificates import serials
from keyreeve_ca.certificates.lint_gate import Linter, lint_findings, when_lint_clean
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.halt.service import refuse_when_halted
from keyreeve_ca.issuance.snapshot import issuer_of, may_sign_leaves
from keyreeve_ca.ledger.ports import BlockRequest, InProcess
from keyreeve_ca.profiles.profile import PEER_CHECK, ProfileVersion
from keyreeve_ca.store.ports import Authority, Store, Transaction
from keyreeve_chassis.idempotency.ports import Commit
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStore, SealedKey

R = TypeVar("R")

_AUTHORITY_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_LONGEST_LIFETIME = 100 * 366 * 86_400
"""Seconds; certificates can express no time after the year 9999."""
_OWNER = re.compile(r"(?=.{3,300}\Z)[a-z][a-z-]*(/[A-Za-z0-9._-]+)+\Z")
_REVOCABLE = (AuthorityState.PENDING, AuthorityState.INTRODUCED, AuthorityState.ACTIVE, AuthorityState.RETIRING)
_DESTRUCTIBLE = (AuthorityState.PENDING, AuthorityState.INTRODUCED, AuthorityState.RETIRING, AuthorityState.REVOKED)


@dataclass(frozen=True, slots=True)
class NewAuthority:
    """The parameters of a new authority."""

    authority_id: str
    hierarchy: Hierarchy
    owner: str
    issuer_id: str | None
    """None for a root."""
    common_name: str
    key_type: KeyType = KeyType.P256
    lifetime: timedelta | None = None
    permitted_dns: tuple[str, ...] = ()
    unconstrained: bool = False
    """Without name constraints, for programs that cannot read critical ones; the final check refuses reserved names anyway."""
    order: Order | None = None
    """The place of its creation among the changes of the array that owns it."""


@dataclass(frozen=True)
class Authorities:
    """The use cases behind AuthorityService's mutations."""

    store: Store
    keystore: KeyStore
    linter: Linter
    now: Callable[[], int]
    trust_domain: str
    url: str
    random: Callable[[int], bytes] = os.urandom

    async def create(self, new: NewAuthority, commit: Commit[Transaction, Authority, R]) -> R:
        """Create a pending authority. Raises `AuthorityExists`, `AuthorityRefused`, `AuthorityNotFound`."""
        _check_id(new.authority_id)
        if new.owner and not _OWNER.match(new.owner):
            raise errors.FieldInvalid(
                "the owner is not the name of a resource",
                violations=[errors.Violation("authority.owner", "a name such as `arrays/{array}` is required")],
            )
        issuer = await self.store.read(lambda tx: self._checked(tx, new))
        plan = self._plan(new, issuer)
        key = await asyncio.to_thread(self.keystore.generate, new.key_type)
        refuse_unsound(plan, key.spki, None if issuer is None else issuer_of(issuer, self.url))
        issuer_key = key if issuer is None else await self.store.read(lambda tx: tx.key(issuer.key_id))
        signer = IssuingSigner(self.keystore.open(issuer_key))
        certificate_der = await self.certify(plan, new.authority_id, key.spki, issuer, signer)
        if findings := await asyncio.to_thread(self.linter.certificate, certificate_der):
            raise lint_findings(new.authority_id, findings)

        def act(tx: Transaction) -> Authority:
            refuse_when_halted(tx)
            follow_order(tx.arrays, new.owner, new.order)
            self._issuer(tx, new)
            _refuse_known_name(tx, new.authority_id, certificate_der)
            tx.add_key(key)
            authority = pending_authority(
                plan,
                authority_id=new.authority_id,
                owner=new.owner,
                key=key,
                certificate_der=certificate_der,
                issuer=issuer,
                now=self.now(),
            )
            tx.add_authority(authority)
            tx.bump_config()
            return authority

        return await commit(act)

    async def certify(
        self,
        plan: AuthorityPlan,
        authority_id: str,
        spki: bytes,
        issuer: Authority | None,
        signer: IssuingSigner,
        *,
        exemption: InProcess | None = None,
    ) -> bytes:
        """Sign a CA certificate with its issuer's key (a root's: its own): the serial number is committed first.

        Raises `IssuanceHalted` unless there is an `exemption`, as for recovery.
        """
        seed, seed_id = self.random(serials.SEED_BYTES), self.random(16).hex()
        request = BlockRequest(
            authority_id=authority_id if issuer is None else issuer.authority_id,
            worker_id="authorities",
            profile_hashes=frozenset(),
            seed_id=seed_id,
            sealed_seed=self.keystore.seal("seed", seed_id, seed),
            exemption=exemption,
        )
        lease = await self.store.write(lambda tx: tx.reserve_block(request))
        return issue_authority(
            plan,
            spki,
            serials.serial(lease.block_id, seed, 0),
            signer,
            issuer=None if issuer is None else issuer_of(issuer, self.url),
            crl_shard=lease.crl_shard,
        )

    async def introduce(self, authority_id: str, order: Order | None, commit: Commit[Transaction, Authority, R]) -> R:
        """Let a pending authority of an array sign peer checks and nothing else, once these lint clean."""
        authority = await self.store.read(lambda tx: _ordered(tx, authority_id, order))
        _expect(authority, AuthorityState.PENDING)
        introduced = replace(authority, state=AuthorityState.INTRODUCED)

        def lint(_authorities: Sequence[Authority], profiles: Sequence[ProfileVersion]) -> list[str]:
            issuer = issuer_of(introduced, self.url)
            checks = [version for version in profiles if version.name == PEER_CHECK]
            return [finding for version in checks for finding in self.linter.profile(version, issuer)]

        def act(tx: Transaction) -> Authority:
            current = _follow(tx, authority_id, order)
            _expect(current, AuthorityState.PENDING)
            return _change(tx, replace(current, state=AuthorityState.INTRODUCED))

        return await when_lint_clean(self.store, lint, authority_id, commit, act)

    async def activate(self, authority_id: str, order: Order | None, commit: Commit[Transaction, Authority, R]) -> R:
        """Allow a pending or introduced authority to issue, once every profile it could issue under lints clean."""
        authority = await self.store.read(lambda tx: _ordered(tx, authority_id, order))
        _expect(authority, AuthorityState.PENDING, AuthorityState.INTRODUCED)

        def lint(_authorities: Sequence[Authority], profiles: Sequence[ProfileVersion]) -> list[str]:
            if not may_sign_leaves(authority):
                return []
            issuer = issuer_of(replace(authority, state=AuthorityState.ACTIVE), self.url)
            return [
                f"{version.name}: {finding}"
                for version in profiles
                if version.profile.hierarchy is authority.hierarchy
                for finding in self.linter.profile(version, issuer)
            ]

        return await when_lint_clean(
            self.store, lint, authority_id, commit, lambda tx: self._to_active(tx, authority_id, order)
        )

    def _to_active(self, tx: Transaction, authority_id: str, order: Order | None) -> Authority:
        authority = _follow(tx, authority_id, order)
        _expect(authority, AuthorityState.PENDING, AuthorityState.INTRODUCED)
        if authority.not_after <= self.now():
            raise errors.AuthorityExpiring(f"authority {authority_id!r} has expired")
        return _change(tx, replace(authority, state=AuthorityState.ACTIVE, activated_at=self.now()))

    def retire(self, tx: Transaction, authority_id: str, order: Order | None = None) -> Authority:
        """Stop an active authority from issuing, or retire a retiring one that has no unexpired certificates."""
        authority = _follow(tx, authority_id, order)
        _expect(authority, AuthorityState.ACTIVE, AuthorityState.RETIRING)
        if authority.state is AuthorityState.ACTIVE:
            self._refuse_last(tx, authority)
            return _change(tx, replace(authority, state=AuthorityState.RETIRING, retired_at=self.now()))
        self._refuse_unexpired(tx, authority_id)
        tx.destroy_key(authority.key_id)
        return _change(tx, replace(authority, state=AuthorityState.RETIRED))

    def destroy(self, tx: Transaction, authority_id: str, order: Order | None, *, accept_unexpired: bool) -> Authority:
        """Destroy the key of an array's authority that does not issue."""
        authority = _follow(tx, authority_id, order)
        _expect(authority, *_DESTRUCTIBLE)
        if not accept_unexpired:
            self._refuse_unexpired(tx, authority_id)
        tx.destroy_key(authority.key_id)
        revoked = authority.state is AuthorityState.REVOKED
        return authority if revoked else _change(tx, replace(authority, state=AuthorityState.RETIRED))

    def _refuse_unexpired(self, tx: Transaction, authority_id: str) -> None:
        last = tx.last_expiry(authority_id)
        if last is not None and last >= self.now():
            raise errors.AuthorityInUse(
                f"authority {authority_id!r} has issued certificates that have not expired; the last of them expires at "
                f"{datetime.fromtimestamp(last, UTC):%Y-%m-%dT%H:%M:%SZ}",
                metadata={"authority": authority_id, "last_expiry": str(last)},
            )

    def revoke(
        self, tx: Transaction, authority_id: str, reason: str, order: Order | None = None, *, by_admin: bool = False
    ) -> Authority:
        """Revoke an authority and the CAs below it. They stop being trusted at once; an admin needs no order."""
        authority = tx.authority(authority_id) if by_admin else _follow(tx, authority_id, order)
        _expect(authority, *_REVOCABLE)
        if authority.state is AuthorityState.ACTIVE:
            self._refuse_last(tx, authority)
        below = [a for a in tx.authorities() if a.issuer_id == authority_id != a.authority_id and a.state in _REVOCABLE]
        if any(a.state is AuthorityState.ACTIVE for a in below):
            self._refuse_last(tx, *below)
        revoked = [
            _change(
                tx,
                replace(one, state=AuthorityState.REVOKED, revoked_at=self.now(), revocation_reason=reason),
            )
            for one in (authority, *below)
        ]
        return revoked[0]

    def _refuse_last(self, tx: Transaction, *going: Authority) -> None:
        """Raise when the hierarchy would lose its last active CA of a kind.

        Without it nobody could authenticate, the caller included.
        """
        hierarchy, kind = going[0].hierarchy, going[0].kind
        if hierarchy is Hierarchy.STANDALONE:
            return
        leaving = {a.authority_id for a in going}
        for other in tx.authorities():
            if other.authority_id in leaving or (other.hierarchy, other.kind) != (hierarchy, kind):
                continue
            if other.state is AuthorityState.ACTIVE and other.not_after > self.now():
                return
        names = ", ".join(sorted(leaving))
        raise errors.AuthorityInUse(
            f"no active {kind} of the {hierarchy} hierarchy would be left without {names}: activate a successor first",
            metadata={"authority": names, "hierarchy": hierarchy.value, "kind": kind.value},
        )

    def _checked(self, tx: Transaction, new: NewAuthority) -> Authority | None:
        check_order(tx.arrays, new.owner, new.order)
        return self._issuer(tx, new)

    def _issuer(self, tx: Transaction, new: NewAuthority) -> Authority | None:
        if new.hierarchy is Hierarchy.STANDALONE:
            if new.issuer_id is not None or not new.owner:
                raise errors.AuthorityRefused(
                    "a stand-alone authority signs itself and needs an owner, such as `arrays/{array}`"
                )
            return None
        if new.owner:
            raise errors.AuthorityRefused(
                "the authorities of the two hierarchies belong to the control plane: leave `owner` out"
            )
        if new.issuer_id is None:
            return None
        issuer = tx.authority(new.issuer_id)
        if issuer.hierarchy is not new.hierarchy or issuer.kind is not AuthorityKind.ROOT:
            raise errors.AuthorityRefused(
                f"authority {new.issuer_id!r} is not a root of the {new.hierarchy} hierarchy",
                metadata={"issuer": new.issuer_id},
            )
        _expect(issuer, AuthorityState.ACTIVE)
        return issuer

    def _plan(self, new: NewAuthority, issuer: Authority | None) -> AuthorityPlan:
        """Fill in defaults.

        A default lifetime is cut where the issuer ends; a requested lifetime must fit as it is.
        """
        above_leaves = new.hierarchy is Hierarchy.STANDALONE or issuer is not None
        backdate = int(AUTHORITY_BACKDATE.total_seconds())
        not_before = self.now() - backdate
        lifetime = int((new.lifetime or (ISSUING_LIFETIME if above_leaves else ROOT_LIFETIME)).total_seconds())
        if not backdate < lifetime <= _LONGEST_LIFETIME:
            raise errors.AuthorityRefused(
                f"an authority lives for more than {in_words(AUTHORITY_BACKDATE)}, which have passed when it is made, and for at "
                f"most {in_words(timedelta(seconds=_LONGEST_LIFETIME))}"
            )
        not_after = not_before + lifetime - 1
        if issuer is not None:
            not_before = max(not_before, issuer.not_before)
        if issuer is not None and new.lifetime is None:
            not_after = min(not_after, issuer.not_after)
        # Whatever its profiles say, no CA but the control hierarchy's may issue the names that our own clients pin; an
        # array's CA signs probes (docs/names.md), so of the two reserved suffixes only the services' is closed to it.
        services, probes = reserved_dns_suffixes(self.trust_domain)
        excluded = {Hierarchy.CONTROL: (), Hierarchy.ESTATE: (services, probes), Hierarchy.STANDALONE: (services,)}[
            new.hierarchy
        ]
        if new.unconstrained and (issuer is None or new.hierarchy is not Hierarchy.ESTATE or new.permitted_dns):
            raise errors.AuthorityRefused(
                "only an intermediate of the estate hierarchy without permitted suffixes can be without name constraints"
            )
        if new.unconstrained:
            excluded = ()
        return AuthorityPlan(
            hierarchy=new.hierarchy,
            common_name=new.common_name,
            organization=organization_of(self.trust_domain),
            key_type=new.key_type,
            not_before=not_before,
            not_after=not_after,
            path_length=0 if above_leaves else 1,
            constraints=NameConstraints(permitted_dns=new.permitted_dns, excluded_dns=excluded if above_leaves else ()),
        )


def pending_authority(
    plan: AuthorityPlan,
    *,
    authority_id: str,
    owner: str,
    key: SealedKey,
    certificate_der: bytes,
    issuer: Authority | None,
    now: int,
) -> Authority:
    """The pending authority that a signed CA certificate stands for."""
    return Authority(
        authority_id=authority_id,
        hierarchy=plan.hierarchy,
        kind=AuthorityKind.ROOT if issuer is None else AuthorityKind.INTERMEDIATE,
        owner=owner,
        state=AuthorityState.PENDING,
        issuer_id=authority_id if issuer is None else issuer.authority_id,
        key_id=key.key_id,
        key_type=key.key_type,
        certificate_der=certificate_der,
        spki_sha256=hashlib.sha256(key.spki).digest(),
        not_before=plan.not_before,
        not_after=plan.not_after,
        created_at=now,
    )


def _check_id(authority_id: str) -> None:
    if not _AUTHORITY_ID.match(authority_id):
        raise errors.FieldInvalid(
            f"{authority_id!r} is not an authority id",
            violations=[
                errors.Violation("authority_id", "1-63 lower-case letters, digits and hyphens, beginning with a letter")
            ],
        )


def _expect(authority: Authority, *states: AuthorityState) -> None:
    if authority.state not in states:
        raise errors.AuthorityStateWrong(
            f"authority {authority.authority_id!r} is {authority.state}; this needs {' or '.join(states)}",
            metadata={"authority": authority.authority_id, "state": authority.state},
        )


def _ordered(tx: Transaction, authority_id: str, order: Order | None) -> Authority:
    """The authority, when a change in this place may be made."""
    authority = tx.authority(authority_id)
    check_order(tx.arrays, authority.owner, order)
    return authority


def _follow(tx: Transaction, authority_id: str, order: Order | None) -> Authority:
    """The same in the transaction that makes the change."""
    authority = tx.authority(authority_id)
    follow_order(tx.arrays, authority.owner, order)
    return authority


def _change(tx: Transaction, authority: Authority) -> Authority:
    tx.update_authority(authority)
    tx.bump_config()
    return authority


def _refuse_known_name(tx: Transaction, authority_id: str, certificate_der: bytes) -> None:
    """Raise when another CA has the subject, unless it also has the id: `add_authority` says so.

    Chain building and CRL lookup take two CAs of one name for each other.
    """
    subject = x509.load_der_x509_certificate(certificate_der).subject
    encoded = subject.public_bytes()
    for other in tx.authorities():
        if other.authority_id == authority_id:
            continue
        # Its issuer's name is in it too; only the few that hold these octets at all are parsed.
        if (
            encoded in other.certificate_der
            and x509.load_der_x509_certificate(other.certificate_der).subject == subject
        ):
            raise errors.AuthorityRefused(
                f"authority {other.authority_id!r} has this common name", metadata={"authority": other.authority_id}
            )
