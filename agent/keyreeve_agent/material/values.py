"""Values of a member's peer material. Times are seconds since 1970."""

from dataclasses import dataclass, field

from keyreeve.membership_values import Epoch
from keyreeve.values import MemberState


@dataclass(frozen=True, slots=True)
class RollMember:
    """A member of the array as the roll has it."""

    name: str
    """Its peer DNS name."""
    uid: str
    array: str
    joining_array: str
    state: MemberState
    primary: bool
    address: str
    """The host and port that others dial."""

    def belongs_to(self, array: str) -> bool:
        """Whether members of this array accept it."""
        if self.state is MemberState.JOINING:
            return array in (self.array, self.joining_array)
        return self.array == array and self.state in _ACCEPTED


_ACCEPTED = frozenset({MemberState.STANDALONE, MemberState.MEMBER})


@dataclass(frozen=True, slots=True)
class Material:
    """One set of certificate, key, bundle and CRLs."""

    certificate_der: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    authority: str
    """The issuer of the certificate, `authorities/{authority}`."""
    epoch: Epoch
    crls_der: tuple[bytes, ...] = field(default=(), repr=False)
    renew_at: int = 0
    """When the certificate is to be renewed."""
