"""`halt.Halts` on both databases."""

from dataclasses import asdict, fields

from sqlalchemy import Connection, select, true

from keyreeve_ca.halt.service import HaltState
from keyreeve_ca.halt.tables import issuance_halt
from keyreeve_chassis.trust_tables.sql import SqlTrust

_COLUMNS = [issuance_halt.c[f.name] for f in fields(HaltState)]


class SqlHalts:
    """The switch in one transaction."""

    def __init__(self, connection: Connection, trust: SqlTrust, *, writable: bool) -> None:
        self._connection = connection
        self._rows = trust.rows(issuance_halt)
        self._writable = writable

    def state(self) -> HaltState:
        """Read the row; it is locked in a write transaction. Without it, issuance is halted: another party deleted it."""
        query = select(*_COLUMNS)
        row = self._connection.execute(query.with_for_update() if self._writable else query).one_or_none()
        return HaltState(halted=True, halted_at=0, halt_reason="the row is missing") if row is None else HaltState(*row)

    def put(self, state: HaltState) -> None:
        """Replace the row."""
        self._rows.update(true(), asdict(state))
