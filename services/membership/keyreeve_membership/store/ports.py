"""The transactions of the service, as its use cases see them."""

from typing import Protocol

from keyreeve_chassis.leases.ports import Leases
from keyreeve_chassis.operations.ports import OperationTransaction
from keyreeve_chassis.trust_tables.ports import TrustRecords
from keyreeve_membership.configuration.ports import SettingRecords
from keyreeve_membership.epochs.ports import EpochRecords
from keyreeve_membership.roll.ports import RollRecords
from keyreeve_membership.rotations.ports import RotationRecords


class Transaction(OperationTransaction, Protocol):
    """One database transaction."""

    @property
    def roll(self) -> RollRecords: ...

    @property
    def epochs(self) -> EpochRecords: ...

    @property
    def rotations(self) -> RotationRecords: ...

    @property
    def settings(self) -> SettingRecords: ...

    @property
    def leases(self) -> Leases: ...

    @property
    def trust(self) -> TrustRecords: ...
