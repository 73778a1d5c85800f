"""The CAs of arrays as the CA service keeps them: states, refused old orders, certificates; in memory."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.errors import AuthorityNotFound, AuthorityStateWrong, StoreUnavailable
from keyreeve_membership.authorities.ports import ArrayAuthority, CaState, KeyType, Order, PeerCertificate
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
    away: bool = False
    """Every call fails, as when the CA service is stopped."""

    async def create(self, order: Order, authority_id: str, common_name: str, key_type: KeyType) -> ArrayAuthority:
        self._take("create", authority_id, order)
        if authority_id not in self.known:
            ca = TestCa.root(common_name)
            self.cas[authority_id] = ca
            self.owners[authority_id] = order.array_id
            der = ca.certificate.public_bytes(Encoding.DER)
            self.known[authority_id] = ArrayAuthority(authority_id, der, CaState.PENDING)
        return self.known[authority_id]

    async def get(self, authority_id: str) -> ArrayAuthority:
        self._reach()
        if authority_id not in self.known:
            raise AuthorityNotFound(authority_id)
        return self.known[authority_id]

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        self._take("activate", authority_id, order)
        return self._move(authority_id, CaState.ACTIVE, {CaState.PENDING, CaState.INTRODUCED, CaState.ACTIVE})

    async def issue_peer(self, authority_id: str, member: str, csr: bytes, request_id: str) -> PeerCertificate:
        self._reach()
        if self.known[authority_id].state is not CaState.ACTIVE:
            raise AuthorityStateWrong(f"{authority_id} is {self.known[authority_id].state}")
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        made = self.cas[authority_id].leaf(dns=[member], common_name=member).certificate
        serial = f"{made.serial_number:032x}"
        self.issued.append((authority_id, member, serial))
        now = datetime.now(UTC)
        return PeerCertificate(
            serial,
            made.public_bytes(Encoding.DER),
            authority_id,
            int((now + timedelta(hours=12)).timestamp()),
            int((now + timedelta(hours=8)).timestamp()),
        )

    def _move(self, authority_id: str, state: CaState, allowed: set[CaState]) -> ArrayAuthority:
        found = self.known[authority_id]
        if found.state not in allowed:
            raise AuthorityStateWrong(f"{authority_id} is {found.state}")
        self.known[authority_id] = replace(found, state=state)
        return self.known[authority_id]

    def _take(self, what: str, authority_id: str, order: Order) -> None:
        self._reach()
        self.orders.append((what, authority_id, order))

    def _reach(self) -> None:
        if self.away:
            raise StoreUnavailable("the CA service is stopped")
