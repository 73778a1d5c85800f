"""Arrays and members: the values, and the port to their records."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

MEMBERS = "members"
"""Topic that a transaction touches when it changes the roll (`keyreeve_chassis.changes`)."""


class ArrayState(StrEnum):
    """The state of an array."""

    ACTIVE = "active"
    DISSOLVED = "dissolved"


class MemberState(StrEnum):
    """The state of a member."""

    STANDALONE = "standalone"
    JOINING = "joining"
    MEMBER = "member"
    DETACHING = "detaching"
    QUARANTINED = "quarantined"
    DETACHED = "detached"


@dataclass(frozen=True, slots=True)
class Array:
    """An array of servers. Times are seconds since 1970."""

    array_id: str
    array_uid: str
    state: ArrayState
    authority_id: str
    """The CA that issues."""
    authority_sha256: bytes
    epoch: int
    peer_security: bool
    change: str
    """Id of the operation that changes its structure; empty: none does."""
    order_number: int
    """Number of its last structural change: orders to the CA carry it, and it only grows."""
    order_step: int
    """Step of that change."""
    backups: tuple[str, ...]
    """`member_uid`s of the backup primaries, in order."""
    created_at: int

    @property
    def resource(self) -> str:
        """Its resource name."""
        return f"arrays/{self.array_id}"

    def with_change(self, operation_id: str) -> "Array":
        """The array with a structural change that begins."""
        return replace(self, change=operation_id, order_number=self.order_number + 1, order_step=0)


@dataclass(frozen=True, slots=True)
class Member:
    """A server. Its place in an array is a fact of this record alone."""

    member_uid: str
    name: str
    """Peer DNS name; a reused one belongs to a record with another `member_uid`."""
    array_id: str
    joining_array_id: str
    state: MemberState
    primary: bool
    address: str
    external_names: tuple[str, ...]
    release: str
    created_at: int
    revision: int = 0
    """Number of its last change; set when it is stored."""
    left_array_id: str = ""
    """The array that it was in before."""

    @property
    def resource(self) -> str:
        """Its resource name."""
        return f"members/{self.name}"

    @property
    def counted(self) -> bool:
        """Whether its array's rotations wait for it."""
        return self.state in {MemberState.STANDALONE, MemberState.MEMBER, MemberState.JOINING}


@dataclass(frozen=True, slots=True)
class PeerReach:
    """What a server found when it dialed another one."""

    member: str
    reachable: bool
    problem: str
    clock_difference_ms: int


@dataclass(frozen=True, slots=True)
class ArrayView:
    """An array as one of its members sees it: names without their collections."""

    array: str
    primary: str
    members: tuple[str, ...]
    epoch: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Report:
    """The last report of a server. Times are milliseconds since 1970."""

    member_uid: str
    received_at_ms: int
    time_ms: int
    """The server's clock."""
    boot_id: str
    view: ArrayView | None
    peers: tuple[PeerReach, ...]
    certificate: str
    """Serial of the peer certificate that is loaded; empty: none is."""
    authority_id: str
    """Its issuer."""
    certificate_not_after: int
    """Seconds since 1970; 0: unknown."""
    running_sessions: int | None
    suspended_sessions: int | None
    stopped: bool
    former_boot_id: str = ""
    """The boot before the present one."""
    booted_at_ms: int = 0
    """When the present boot reported first."""
    cloned: bool = False
    """Two boots have reported in turn: two servers use one identity."""

    @property
    def clock_difference_ms(self) -> int:
        """The server's clock minus the control plane's."""
        return self.time_ms - self.received_at_ms


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """The part of a server's last report whose size does not grow with the array, as in `Report`."""

    member_uid: str
    received_at_ms: int
    boot_id: str
    authority_id: str
    certificate_not_after: int
    former_boot_id: str
    booted_at_ms: int
    cloned: bool


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The newest epoch of an array that a server has loaded."""

    member_uid: str
    array_id: str
    boot_id: str
    epoch: int
    digest: bytes
    at: int


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """One change of a member, kept forever."""

    revision: int
    member_uid: str
    name: str
    array_id: str
    event: str
    actor: str
    comment: str
    at: int


class RollRecords(Protocol):
    """The roll in one transaction."""

    def lock_array(self, array_id: str) -> Array | None:
        """Return an array, locked against other transactions until the end of this one."""
        ...

    def array(self, array_id: str) -> Array | None: ...
    def arrays(self, *, after: str, limit: int, dissolved: bool) -> Sequence[Array]: ...
    def add_array(self, array: Array) -> None: ...
    def update_array(self, array: Array) -> None: ...
    def member(self, name: str) -> Member | None:
        """The server that has this name now; None also when it was removed for good."""
        ...

    def member_of(self, member_uid: str) -> Member | None: ...
    def members_of(self, array_id: str) -> Sequence[Member]:
        """The members of an array in order of their names."""
        ...

    def joining(self, array_id: str) -> Sequence[Member]:
        """The servers that are joining an array."""
        ...

    def members(self, *, after: str, limit: int, array_id: str, detached: bool) -> Sequence[Member]: ...
    def changed(self, after_revision: int, limit: int) -> Sequence[Member]:
        """Members changed after a revision, in order of their revisions."""
        ...

    def revision(self) -> int:
        """The revision of the roll."""
        ...

    def published(self) -> int:
        """The revision up to which the CA has been told of members."""
        ...

    def set_published(self, revision: int) -> None: ...
    def put_member(self, member: Member, event: str, actor: str, comment: str = "") -> Member:
        """Store a member as a new revision, with its event in the history; return it with its revision."""
        ...

    def history(self, name: str, *, after: int, limit: int) -> Sequence[MemberEvent]:
        """The events after a revision of all servers that have had a name, the oldest first."""
        ...

    def report(self, member_uid: str) -> Report | None: ...
    def reports(self, member_uids: Sequence[str]) -> dict[str, Report]: ...
    def report_facts(self, member_uids: Sequence[str]) -> dict[str, ReportFacts]:
        """Parts of the last reports of servers, by uid: much cheaper than whole reports of large arrays."""
        ...

    def put_report(self, report: Report) -> None: ...
    def acknowledgements(self, member_uids: Sequence[str]) -> dict[str, Acknowledgement]: ...
    def put_acknowledgement(self, acknowledgement: Acknowledgement) -> None: ...


class RollTransaction(Protocol):
    """A transaction that holds the roll."""

    @property
    def roll(self) -> RollRecords: ...
