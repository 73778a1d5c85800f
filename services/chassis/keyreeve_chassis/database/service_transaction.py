"""The base of a service's transactions: the records that every service keeps."""

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from keyreeve_chassis.database.binding import BoundState
from keyreeve_chassis.database.service_tables import ServiceTables
from keyreeve_chassis.database.store import SqlTransaction
from keyreeve_chassis.idempotency.sql import SqlRequests
from keyreeve_chassis.leases.sql import SqlLeases
from keyreeve_chassis.operations.sql import SqlOperations
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_chassis.trust_tables.tables import TrustTables


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The one row that describes a service's database; absent before the first start."""

    trust_domain: str
    restore_generation: int
    """Rises when the database has been restored to an older state."""
    key_check: bytes
    """A known value sealed under the key-encryption key: another key is noticed at start."""
    created_at: int
    """Seconds since 1970."""

    @property
    def bound(self) -> BoundState:
        """The binding that a state directory stores."""
        return BoundState.of(self.key_check, self.trust_domain)


class ServiceTransaction(SqlTransaction):
    """One database transaction. A service's own class adds its records."""

    tables: ServiceTables
    """Set by the service's class."""
    trust_tables: TrustTables | None = None
    """Set by the class of a service with trust tables."""

    def __init__(self, connection: Connection, *, now: int, writable: bool, seals: Seals | None = None) -> None:
        super().__init__(connection, now=now, writable=writable)
        self._trust = (
            None
            if seals is None or self.trust_tables is None
            else SqlTrust(connection, self.trust_tables, seals, self._must_be_writable)
        )

    @property
    def trust(self) -> SqlTrust:
        """The trust tables of a service that has some."""
        assert self._trust is not None, "the service's class declares trust tables, and the key store is open"
        return self._trust

    def complete(self) -> None:
        """Write the heads of changed trust tables."""
        if self._trust is not None:
            self._trust.complete()

    @property
    def requests(self) -> SqlRequests:
        """Stored answers of mutations."""
        return SqlRequests(self._connection, self.tables.requests, self._now, self._must_be_writable)

    @property
    def operations(self) -> SqlOperations:
        """Long-running operations."""
        return SqlOperations(self._connection, self.tables.operations, self._must_be_writable)

    @property
    def leases(self) -> SqlLeases:
        """The leases."""
        return SqlLeases(self._connection, self.tables.leases, self._now, self._must_be_writable)

    def service_state(self) -> ServiceState | None:
        """Read the row; None before the first start."""
        t = self.tables.state.c
        row = self._connection.execute(
            select(t.trust_domain, t.restore_generation, t.key_check, t.created_at)
        ).one_or_none()
        return None if row is None else ServiceState(*row)

    def create_service_state(self, state: ServiceState) -> None:
        """Insert the row, once."""
        self._write(
            insert(self.tables.state).values(
                id=1,
                trust_domain=state.trust_domain,
                restore_generation=state.restore_generation,
                key_check=state.key_check,
                created_at=state.created_at,
            )
        )


def lock_service(connection: Connection, key: int) -> None:
    """Block every other write transaction of the service until this one ends, on PostgreSQL."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (key,))
