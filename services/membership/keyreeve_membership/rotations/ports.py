"""Rotations: the values, and the port to their records."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from keyreeve_membership.authorities.ports import KeyType

ROTATIONS = "rotations"
"""Topic that a transaction touches when it changes a rotation."""


class RotationKind(StrEnum):
    """Why a rotation was started."""

    PROMOTE = "promote"
    SCHEDULED = "scheduled"
    ALGORITHM_CHANGE = "algorithm_change"
    EMERGENCY = "emergency"


class Phase(StrEnum):
    """How far a rotation has come."""

    PREPARED = "prepared"
    DISTRIBUTED = "distributed"
    ACTIVATED = "activated"
    REISSUED = "reissued"
    DISTRUSTED = "distrusted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Rotation:
    """A change of the CA of an array. Times are seconds since 1970."""

    rotation_id: str
    array_id: str
    kind: RotationKind
    phase: Phase
    step: int
    old_authority_id: str
    new_authority_id: str
    old_primary_uid: str
    new_primary_uid: str
    """Other than the old one for PROMOTE alone."""
    key_type: KeyType
    epoch: int
    """The epoch with both CAs; 0 before DISTRIBUTED."""
    final_epoch: int
    """The epoch with one of them; 0 before DISTRUSTED, or before a rollback has come so far."""
    was_activated: bool
    """Members may have certificates of the new CA."""
    phase_seconds: int
    """EMERGENCY: the time of each phase; 0: no limit."""
    deadline: int
    """EMERGENCY: the end of the present phase's time; 0: none."""
    operation_id: str
    old_certificates_waived: bool
    old_certificates: int
    creator: str
    created_at: int
    updated_at: int
    ended_at: int | None = None

    @property
    def resource(self) -> str:
        """Its resource name."""
        return f"rotations/{self.rotation_id}"


@dataclass(frozen=True, slots=True)
class RotationMember:
    """What a rotation knows of a member beside its reports."""

    rotation_id: str
    member_uid: str
    checked_boot_id: str = ""
    """The start of its agent whose peer port has answered a check with a certificate of the new CA."""
    waived: bool = False
    quarantined: bool = False
    waiting: str = ""
    waiting_since: int = 0


class RotationRecords(Protocol):
    """The rotations in one transaction."""

    def add(self, rotation: Rotation) -> None: ...
    def get(self, rotation_id: str) -> Rotation | None: ...
    def page(self, *, before: str, limit: int, array_id: str) -> Sequence[Rotation]:
        """Rotations, the newest first, after the one named `before`."""
        ...

    def advance(self, before: Rotation, after: Rotation) -> bool:
        """Store `after` under the lock of its row; False when phase or step are no longer those of `before`."""
        ...

    def members(self, rotation_id: str) -> dict[str, RotationMember]: ...
    def put_member(self, member: RotationMember) -> None: ...


class RotationTransaction(Protocol):
    """A transaction that holds rotations."""

    @property
    def rotations(self) -> RotationRecords: ...
