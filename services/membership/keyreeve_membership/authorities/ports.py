"""The port to the CAs of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class CaState(StrEnum):
    """The state of an authority in the CA service."""

    PENDING = "pending"
    INTRODUCED = "introduced"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"
    REVOKED = "revoked"


class KeyType(StrEnum):
    """The key type of an array's CA."""

    P256 = "p256"
    P384 = "p384"
    RSA3072 = "rsa3072"


@dataclass(frozen=True, slots=True)
class Order:
    """What every order to the CA carries; an older one than the CA has seen for the array is refused."""

    array_id: str
    number: int
    """Number of the structural change within the array."""
    step: int
    fence: int
    """Fence of the lease under which the order is given."""
    owner_nonce: str

    @property
    def key(self) -> str:
        """Text that is different for every order."""
        return f"{self.array_id}/{self.number}/{self.step}/{self.fence}/{self.owner_nonce}"


@dataclass(frozen=True, slots=True)
class ArrayAuthority:
    """An authority of an array."""

    authority_id: str
    certificate_der: bytes
    state: CaState


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate that an array's CA has issued. Times are seconds since 1970."""

    serial: str
    certificate_der: bytes
    authority_id: str
    not_after: int
    renew_at: int


@dataclass(frozen=True, slots=True)
class MemberFact:
    """What the CA tells every service of a server, so that its calls are judged by its place in its array."""

    member_uid: str
    name: str
    array_id: str
    state: str
    primary: bool
    removed: bool


class ArrayAuthorities(Protocol):
    """The CAs of arrays. Every method may be repeated; all raise `keyreeve.errors`."""

    async def create(self, order: Order, authority_id: str, common_name: str, key_type: KeyType) -> ArrayAuthority:
        """Create the authority, or return it as it is."""
        ...

    async def get(self, authority_id: str) -> ArrayAuthority:
        """Return the authority. Raises `AuthorityNotFound`."""
        ...

    async def introduce(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Let it sign certificates for checks, and nothing else."""
        ...

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Let it issue."""
        ...

    async def retire(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Stop it from issuing."""
        ...

    async def destroy(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Destroy its key, whatever it has issued."""
        ...

    async def issue_peer(self, authority_id: str, member: str, csr: bytes, request_id: str) -> PeerCertificate:
        """Issue a peer certificate for a server."""
        ...

    async def issue_check(self, authority_id: str, name: str, csr: bytes) -> PeerCertificate:
        """Issue a certificate that is good for a ping of a peer port alone."""
        ...

    async def revoke_peer(self, authority_id: str, member: str, *, superseded: bool) -> int:
        """Revoke the valid certificates of a server from this authority; return their number."""
        ...

    async def revoke_checks(self, authority_id: str) -> int:
        """Revoke the valid certificates for checks from this authority; return their number."""
        ...

    async def count_valid(self, authority_id: str) -> int:
        """How many certificates of the authority are neither expired nor revoked."""
        ...

    async def set_members(self, order: Order, facts: Sequence[MemberFact]) -> None:
        """Have every service know these facts about members of the order's array."""
        ...
