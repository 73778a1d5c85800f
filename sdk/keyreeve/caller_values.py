"""Values of the caller feed."""

from dataclasses import dataclass, field

from keyreeve.common_values import AuthorityState, MemberState, OperatorRole


@dataclass(frozen=True, slots=True)
class IssuingAuthority:
    """An issuing CA of the control hierarchy."""

    name: str
    """`authorities/{authority}`."""
    state: AuthorityState
    certificate_der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """An operator's record, as far as it decides whether a certificate is accepted."""

    name: str
    """`operators/{name}`."""
    person_uid: str
    """Unique to the person, even when a name is reused."""
    role: OperatorRole
    since: int
    """Certificates issued before this second are refused."""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """What the membership service says of a server that calls the control plane."""

    member_uid: str
    """Unique id of the member, which a reused name does not inherit."""
    identity: str
    """Its SPIFFE ID, `spiffe://{trust domain}/members/{peer DNS name}`."""
    array: str
    """`arrays/{array}`."""
    state: MemberState
    primary: bool = False
    """Whether it is the primary of its array."""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class CallersUpdate:
    """All changes of callers between two sequence numbers."""

    restore_generation: int
    after_seq: int
    """The update begins after this number; 0: it begins a snapshot."""
    seq: int
    """The update ends with this number."""
    head_seq: int
    """The highest number; above `seq` when more updates follow at once."""
    time: int
    """The time of this state, in seconds since 1970."""
    authorities: tuple[IssuingAuthority, ...] = ()
    operators: tuple[OperatorRecord, ...] = ()
    revoked: tuple[tuple[bytes, int], ...] = ()
    """Serial number (16 octets) and last instant (seconds since 1970) of each certificate."""
    signature: bytes = field(default=b"", repr=False)
    signer_der: tuple[bytes, ...] = field(default=(), repr=False)
    """Chain of the signer, leaf first, without the root; empty: the same as in the last update."""
    members: tuple[MemberRecord, ...] = ()
    closed_sessions: tuple[tuple[str, int], ...] = ()
    """Id and latest end (seconds since 1970) of each closed session of an operator."""
