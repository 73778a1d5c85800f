"""Values of the calls about arrays and members."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keyreeve.common_values import MemberState as MemberState  # noqa: PLC0414 - it is one of these values


class ArrayState(StrEnum):
    """The states of an array."""

    ACTIVE = "active"
    DISSOLVED = "dissolved"


class AuthorityUse(StrEnum):
    """What an authority of a bundle was for when its epoch was made."""

    ISSUE = "issue"
    ACCEPT = "accept"
    CHECK = "check"


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself, beside its place in an array."""

    name: str
    """Its peer DNS name."""
    address: str
    """The host and port that other members dial."""
    release: str
    external_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Array:
    """An array of servers."""

    name: str
    """`arrays/{array}`."""
    state: ArrayState
    primary: str
    """`members/{member}`."""
    member_count: int
    authority: str
    """The CA that issues its peer certificates, `authorities/{authority}`."""
    authority_sha256: bytes
    """The fingerprint of that CA."""
    epoch: int
    """Its newest epoch."""
    peer_security: bool
    change: str
    """The structural change in progress, `operations/{operation}`; empty if there is none."""
    backup_primaries: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PeerReach:
    """What a server found when it dialed another one."""

    member: str
    """`members/{member}`."""
    reachable: bool
    problem: str = ""
    clock_difference_ms: int = 0


@dataclass(frozen=True, slots=True)
class ArrayView:
    """An array as one of its members sees it."""

    array: str
    """`arrays/{array}`."""
    primary: str
    """`members/{member}`."""
    members: tuple[str, ...]
    """`members/{member}`."""
    epoch: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """What a server says of itself."""

    boot_id: str
    """Random id of this start of its agent."""
    time: datetime
    """The server's clock."""
    release: str
    address: str
    external_names: tuple[str, ...] = ()
    view: ArrayView | None = None
    peers: tuple[PeerReach, ...] = ()
    certificate: str = ""
    """The peer certificate that its TLS stacks have loaded, `certificates/{serial}`."""
    authority: str = ""
    """The issuer of that certificate, `authorities/{authority}`."""
    certificate_not_after: datetime | None = None
    running_sessions: int | None = None
    """None: unknown."""
    suspended_sessions: int | None = None
    stopped: bool = False
    """Whether the programs of the server are stopped."""


@dataclass(frozen=True, slots=True)
class Report:
    """The last report of a server."""

    received_at: datetime
    clock_difference_ms: int
    """The server's clock minus the control plane's."""
    status: Status
    disagreements: tuple[str, ...]
    """How its view differs from the roll."""
    acknowledged_epoch: int


@dataclass(frozen=True, slots=True)
class Member:
    """A server and its place in an array."""

    name: str
    """`members/{member}`."""
    member_uid: str
    """Unique id; a reused name has another."""
    array: str
    joining_array: str
    state: MemberState
    primary: bool
    address: str
    external_names: tuple[str, ...]
    release: str
    created_at: datetime
    revision: int
    """Number of its last change."""
    report: Report | None
    """None before its first report, and in watches."""


@dataclass(frozen=True, slots=True)
class MemberEvent:
    """One change of a server."""

    revision: int
    member: str
    """`members/{member}`."""
    member_uid: str
    """A name that is used again belongs to another server."""
    array: str
    """Where it was after the change, `arrays/{array}`."""
    event: str
    actor: str
    """SPIFFE ID of who did it, or the rotation that went on without the server."""
    comment: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MembersUpdate:
    """Changes of the roll."""

    members: tuple[Member, ...]
    revision: int
    complete: bool
    """Whether the present state has been sent with this update."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a server that has reported is to do."""

    member: Member
    array: str
    """The array whose bundle it loads."""
    epoch: int
    """The newest epoch of that array."""
    authority: str
    """The CA that its peer certificate is to be from."""
    renew_at: datetime | None
    """When to renew; None: at two thirds of the certificate's lifetime."""
    interval_seconds: int
    """When to report again."""
    time: datetime
    """The control plane's clock."""
    peer_security: bool


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A certificate for connections between members."""

    name: str
    """`certificates/{serial}`."""
    certificate_der: bytes
    authority: str
    """Its issuer, `authorities/{authority}`."""
    not_after: datetime
    renew_at: datetime


@dataclass(frozen=True, slots=True)
class BundleAuthority:
    """An authority of a bundle."""

    name: str
    """`authorities/{authority}`."""
    certificate_der: bytes
    use: AuthorityUse


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of an array's bundle."""

    array: str
    """`arrays/{array}`."""
    restore_generation: int
    epoch: int
    digest: bytes
    """SHA-256 over the length-prefixed certificates, sorted by their bytes."""
    previous_digest: bytes
    authorities: tuple[BundleAuthority, ...]
    rotation: str
    """The rotation that made it, `rotations/{rotation}`; empty: none did."""
    created_at: datetime


class RotationKind(StrEnum):
    """Why a rotation was started."""

    PROMOTE = "promote"
    SCHEDULED = "scheduled"
    ALGORITHM_CHANGE = "algorithm_change"
    EMERGENCY = "emergency"


class RotationPhase(StrEnum):
    """How far a rotation has come."""

    PREPARED = "prepared"
    DISTRIBUTED = "distributed"
    ACTIVATED = "activated"
    REISSUED = "reissued"
    DISTRUSTED = "distrusted"
    ROLLED_BACK = "rolled_back"


class Evidence(StrEnum):
    """What proves that a member trusts the new CA."""

    NONE = "none"
    STATEMENT = "statement"
    PEER_CHECK = "peer_check"


@dataclass(frozen=True, slots=True)
class RotationMember:
    """One member in a rotation."""

    member: str
    """`members/{member}`."""
    evidence: Evidence
    waived: bool
    reissued: bool
    """Whether it presents a certificate of the new CA."""
    quarantined: bool
    """Whether the rotation has quarantined it."""
    waiting: str
    """What the rotation waits for from it; empty: nothing."""
    waiting_since: datetime | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of the CA of an array."""

    name: str
    """`rotations/{rotation}`."""
    array: str
    kind: RotationKind
    phase: RotationPhase
    step: int
    old_authority: str
    new_authority: str
    new_primary: str
    """For a promotion: the member that becomes the primary."""
    epoch: int
    """The epoch with both CAs; 0 before it is distributed."""
    final_epoch: int
    deadline: datetime | None
    operation: str
    """Its operation, `operations/{operation}`."""
    old_certificates_waived: bool
    old_certificates: int
    members: tuple[RotationMember, ...]
    """Empty in lists and after the end."""
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    waiting: str = ""
    """What it waits for beside its members: a refusal of the CA, or unexpired certificates of the old CA."""


class SettingScope(StrEnum):
    """Whom a setting is for."""

    ARRAY = "array"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a server or of its array."""

    name: str
    value: str
    scope: SettingScope
