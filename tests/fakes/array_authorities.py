"""The CAs of arrays as the CA service keeps them: states, refused old orders, certificates; in memory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.errors import AuthorityNotFound, AuthorityStateWrong, OrderOutdated, StoreUnavailable
from keyreeve_membership.authorities.ports import ArrayAuthority, CaState, KeyType, MemberFact, Order, PeerCertificate
from support.peer_certificates import TestCa


@dataclass
class FakeArrayAuthorities:
    """`ArrayAuthorities` without a network."""

    cas: dict[str, TestCa] = field(default_factory=dict)
    known: dict[str, ArrayAuthority] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    orders: list[tuple[str, str, Order]] = field(default_factory=list)
    """What was ordered, of which authority."""
    issued: list[tuple[str, str, str]] = field(default_factory=list)
    """Authority, name and serial of each certificate."""
    key_types: dict[str, KeyType] = field(default_factory=dict)
    """By authority."""
    revoked: set[str] = field(default_factory=set)
    facts: dict[str, MemberFact] = field(default_factory=dict)
    """What every service knows of members, by uid."""
    highest: dict[str, tuple[tuple[int, str], tuple[int, int]]] = field(default_factory=dict)
    """By array: fence and owner, number and step of the newest order."""
    hold_reissue: bool = False
    """Revoking what is superseded fails."""
    away: bool = False
    """Every call fails, as when the CA service is stopped."""

    async def create(self, order: Order, authority_id: str, common_name: str, key_type: KeyType) -> ArrayAuthority:
        self._take("create", authority_id, order)
        if authority_id not in self.known:
            ca = TestCa.root(common_name)
            self.cas[authority_id] = ca
            self.owners[authority_id] = order.array_id
            self.key_types[authority_id] = key_type
            der = ca.certificate.public_bytes(Encoding.DER)
            self.known[authority_id] = ArrayAuthority(authority_id, der, CaState.PENDING)
        return self.known[authority_id]

    async def get(self, authority_id: str) -> ArrayAuthority:
        self._reach()
        if authority_id not in self.known:
            raise AuthorityNotFound(authority_id)
        return self.known[authority_id]

    async def introduce(self, order: Order, authority_id: str) -> ArrayAuthority:
        self._take("introduce", authority_id, order)
        if self.known[authority_id].state is not CaState.PENDING:
            return self.known[authority_id]
        return self._move(authority_id, CaState.INTRODUCED, {CaState.PENDING})

    async def retire(self, order: Order, authority_id: str) -> ArrayAuthority:
        self._take("retire", authority_id, order)
        if self.known[authority_id].state is not CaState.ACTIVE:
            return self.known[authority_id]
        return self._move(authority_id, CaState.RETIRING, {CaState.ACTIVE})

    async def destroy(self, order: Order, authority_id: str) -> ArrayAuthority:
        self._take("destroy", authority_id, order)
        return self._move(authority_id, CaState.RETIRED, set(CaState))

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        self._take("activate", authority_id, order)
        return self._move(authority_id, CaState.ACTIVE, {CaState.PENDING, CaState.INTRODUCED, CaState.ACTIVE})

    async def issue_peer(self, authority_id: str, member: str, csr: bytes, request_id: str) -> PeerCertificate:
        return self._issue(authority_id, member, csr, {CaState.ACTIVE})

    async def issue_check(self, authority_id: str, name: str, csr: bytes) -> PeerCertificate:
        return self._issue(authority_id, name, csr, {CaState.INTRODUCED, CaState.ACTIVE})

    async def revoke_peer(self, authority_id: str, member: str, *, superseded: bool) -> int:
        self._reach()
        if self.hold_reissue and superseded:
            raise StoreUnavailable("revocation is stopped")
        found = {serial for issuer, name, serial in self.issued if (issuer, name) == (authority_id, member)}
        found -= self.revoked
        self.revoked |= found
        return len(found)

    async def revoke_checks(self, authority_id: str) -> int:
        self._reach()
        return 0

    async def count_valid(self, authority_id: str) -> int:
        self._reach()
        return sum(issuer == authority_id and serial not in self.revoked for issuer, _, serial in self.issued)

    async def set_members(self, order: Order, facts: Sequence[MemberFact]) -> None:
        self._take("set_members", "", order)
        for one in facts:
            self.facts[one.member_uid] = one

    def _issue(self, authority_id: str, member: str, csr: bytes, states: set[CaState]) -> PeerCertificate:
        self._reach()
        if self.known[authority_id].state not in states:
            raise AuthorityStateWrong(f"{authority_id} is {self.known[authority_id].state}")
        request = x509.load_der_x509_csr(csr)
        # Only the public half of a key is used, and the request has that.
        made = self.cas[authority_id].leaf(dns=[member], common_name=member, key=request)  # type: ignore[arg-type]
        certificate = made.certificate
        serial = f"{certificate.serial_number:032x}"
        self.issued.append((authority_id, member, serial))
        now = datetime.now(UTC)
        return PeerCertificate(
            serial,
            certificate.public_bytes(Encoding.DER),
            authority_id,
            int((now + timedelta(hours=12)).timestamp()),
            int((now + timedelta(hours=8)).timestamp()),
        )

    def _move(self, authority_id: str, state: CaState, allowed: set[CaState]) -> ArrayAuthority:
        if authority_id not in self.known:
            raise AuthorityNotFound(authority_id)
        found = self.known[authority_id]
        if found.state not in allowed:
            raise AuthorityStateWrong(f"{authority_id} is {found.state}")
        self.known[authority_id] = replace(found, state=state)
        return self.known[authority_id]

    def _take(self, what: str, authority_id: str, order: Order) -> None:
        self._reach()
        assert re.fullmatch(r"[A-Za-z0-9-]{1,64}", order.owner_nonce), "as the CA demands"
        owner, place = (order.fence, order.owner_nonce), (order.number, order.step)
        known_owner, known_place = self.highest.get(order.array_id, (owner, place))
        if owner[0] < known_owner[0] or (owner[0] == known_owner[0] and owner != known_owner) or place < known_place:
            raise OrderOutdated(f"{order} is older than {known_owner} {known_place}")
        self.highest[order.array_id] = (owner, place)
        self.orders.append((what, authority_id, order))

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("the CA service is stopped")
