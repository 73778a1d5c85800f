"""`keys.ports.KekRecords` on both databases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select, update

from keyreeve_chassis.database.transactions import Database, touch
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.trust_tables.ports import Alteration, Problem, table_altered
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_credentials.keys.ports import KEYS, Kek, KekState, SealState
from keyreeve_credentials.keys.tables import keks, vault_seal

_NAMES = list(Kek.__dataclass_fields__)


class SqlKeks:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any], trust: SqlTrust) -> None:
        self._connection = connection
        self._write = write
        self._trust = trust

    def add(self, kek: Kek) -> bool:
        """See `KekRecords.add`."""
        same = (keks.c.number == kek.number) | ((keks.c.state == KekState.WRITER.value) & (kek.state.value == "writer"))
        taken = select(keks.c.kek_id).where(keks.c.array_id == kek.array_id, same)
        if self._connection.execute(taken).first() is not None:  # writes of this table come one after the other
            return False
        self._trust.rows(keks).insert(asdict(kek) | {"state": kek.state.value})
        touch(self._connection, KEYS)
        return True

    def update(self, kek: Kek) -> None:
        """See `KekRecords.update`."""
        values = asdict(kek) | {"state": kek.state.value}
        del values["kek_id"], values["wraps"]
        self._trust.rows(keks).update(keks.c.kek_id == kek.kek_id, values)
        touch(self._connection, KEYS)

    def get(self, kek_id: str) -> Kek | None:
        """See `KekRecords.get`."""
        row = self._trust.rows(keks).one(keks.c.kek_id == kek_id)
        return None if row is None else _kek(row)

    def writer(self, array_id: str) -> Kek | None:
        """See `KekRecords.writer`."""
        row = self._trust.rows(keks).one((keks.c.array_id == array_id) & (keks.c.state == KekState.WRITER.value))
        return None if row is None else _kek(row)

    def of_array(self, array_id: str) -> Sequence[Kek]:
        """See `KekRecords.of_array`."""
        query = select(keks).where(keks.c.array_id == array_id).order_by(keks.c.number)
        return [self._true(row) for row in self._connection.execute(query).mappings()]

    def all(self) -> Sequence[Kek]:
        """See `KekRecords.all`."""
        return [self._true(row) for row in self._connection.execute(select(keks).order_by(keks.c.kek_id)).mappings()]

    def exist(self) -> bool:
        """See `KekRecords.exist`."""
        return self._connection.execute(select(keks.c.kek_id).limit(1)).first() is not None

    def use_writer(self, array_id: str, wraps: int) -> Kek | None:
        """See `KekRecords.use_writer`."""
        changed = (
            update(keks)
            .where(keks.c.array_id == array_id, keks.c.state == KekState.WRITER.value)
            .values(wraps=keks.c.wraps + wraps)
            .returning(keks)
        )
        row = self._write(changed).mappings().one_or_none()
        return None if row is None else self._true(row)

    def seal_state(self) -> SealState | None:
        """See `KekRecords.seal_state`."""
        row = self._trust.rows(vault_seal).one(vault_seal.c.id == 1)
        return None if row is None else SealState(row["sealed"], row["changed_at"], row["changed_by"], row["reason"])

    def put_seal_state(self, state: SealState) -> None:
        """See `KekRecords.put_seal_state`."""
        rows, values = self._trust.rows(vault_seal), asdict(state)
        if not rows.update(vault_seal.c.id == 1, values):
            rows.insert({"id": 1, **values})
        touch(self._connection, KEYS)

    def _true(self, row: Mapping[Any, Any]) -> Kek:
        if not self._trust.rows(keks).is_true(row):
            raise table_altered([Alteration(keks.name, row["kek_id"], Problem.CHANGED)])
        return _kek(row)


def look_at_seal(database: Database) -> Iterator[Finding]:
    """Say whether the vault is sealed, for `keyreeve doctor`; the row's seal is checked with the trust tables."""
    found = database.read_here(lambda connection: connection.execute(select(vault_seal)).first())
    if found is None or not found.sealed:
        yield Finding("vault", ok=True, message="it is not sealed")
    else:
        message = f"sealed by {found.changed_by}: {found.reason}" if found.reason else f"sealed by {found.changed_by}"
        yield Finding("vault", ok=False, message=message, fix="Unseal it: keyreeve vault unseal")


def _kek(row: Mapping[Any, Any]) -> Kek:
    return Kek(**{**{name: row[name] for name in _NAMES}, "state": KekState(row["state"])})
