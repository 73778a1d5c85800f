"""What decides about callers, as `Client.trust` gives it: plain values."""

from dataclasses import dataclass, field

from keyreeve.values import AuthorityState, OperatorRole


@dataclass(frozen=True, slots=True)
class IssuingAuthority:
    """An issuing CA of the control hierarchy, as services that verify callers see it."""

    name: str
    """`authorities/{authority}`."""
    state: AuthorityState
    certificate_der: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class OperatorRecord:
    """What decides whether a person's certificate is accepted."""

    name: str
    """`operators/{name}`."""
    person_uid: str
    """The person's own; a name that is used again has another."""
    role: OperatorRole
    since: int
    """Certificates from before this second are not this person's in this role."""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class CallersUpdate:
    """What changed about callers from one number to another, and that nothing else did."""

    restore_generation: int
    after_seq: int
    """The numbers above this one; 0: the beginning of a snapshot."""
    seq: int
    """Up to this one."""
    head_seq: int
    """The highest number; above `seq` when more updates follow at once."""
    time: int
    """When all of that was so, in seconds since 1970."""
    authorities: tuple[IssuingAuthority, ...] = ()
    operators: tuple[OperatorRecord, ...] = ()
    revoked: tuple[tuple[bytes, int], ...] = ()
    """Serial number (16 octets) and last instant (seconds since 1970) of each certificate."""
    signature: bytes = field(default=b"", repr=False)
    signer_der: tuple[bytes, ...] = field(default=(), repr=False)
    """Chain of the signer, leaf first, without the root; empty: as before."""
