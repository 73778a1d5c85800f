"""The port to the CAs of arrays."""

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


class ArrayAuthorities(Protocol):
    """The CAs of arrays. Every method may be repeated; all raise `keyreeve.errors`."""

    async def create(self, order: Order, authority_id: str, common_name: str, key_type: KeyType) -> ArrayAuthority:
        """Create the authority, or return it as it is."""
        ...

    async def get(self, authority_id: str) -> ArrayAuthority:
        """Return the authority. Raises `AuthorityNotFound`."""
        ...

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        """Let it issue."""
        ...

    async def issue_peer(self, authority_id: str, member: str, csr: bytes, request_id: str) -> PeerCertificate:
        """Issue a peer certificate for a server."""
        ...
