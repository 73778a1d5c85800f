"""`store.ports.Transaction` on both databases."""

from keyreeve_chassis.database.service_transaction import ServiceTransaction
from keyreeve_membership.configuration.sql import SqlSettings
from keyreeve_membership.epochs.sql import SqlEpochs
from keyreeve_membership.roll.sql import SqlRoll
from keyreeve_membership.rotations.sql import SqlRotations
from keyreeve_membership.store.tables import SERVICE_TABLES, TRUST_TABLES


class MembershipTransaction(ServiceTransaction):
    """Its records: the roll, the epochs, the rotations."""

    tables = SERVICE_TABLES
    trust_tables = TRUST_TABLES

    @property
    def roll(self) -> SqlRoll:
        """Arrays and members."""
        return SqlRoll(self._connection, self._write, self._now, lambda: self.trust)

    @property
    def epochs(self) -> SqlEpochs:
        """Bundles of arrays."""
        return SqlEpochs(self._connection, lambda: self.trust)

    @property
    def rotations(self) -> SqlRotations:
        """Changes of arrays' CAs."""
        return SqlRotations(self._connection, self._write, lambda: self.trust)

    @property
    def settings(self) -> SqlSettings:
        """Settings of arrays."""
        return SqlSettings(self._connection, self._write)
