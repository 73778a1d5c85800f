"""`arrays.ports.ArrayRecords` on both databases."""

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from keyreeve.caller_values import MemberRecord
from keyreeve.values import MemberState
from keyreeve_ca.arrays.ports import Order
from keyreeve_ca.arrays.tables import array_orders, members

COLUMNS = [
    members.c.member_uid,
    members.c.identity,
    members.c.array,
    members.c.state,
    members.c.primary_member,
    members.c.removed,
]
_ORDER = [array_orders.c[f.name] for f in fields(Order)]


class SqlArrays:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(
        self, connection: Connection, write: Callable[[Any], Any], number: Callable[[], int], *, writable: bool
    ) -> None:
        self._connection = connection
        self._write = write
        self._number = number
        self._writable = writable

    def last_order(self, array: str) -> Order | None:
        """The highest order of an array, locked until the commit in a writing transaction."""
        query = select(*_ORDER).where(array_orders.c.array == array)
        row = self._connection.execute(query.with_for_update() if self._writable else query).one_or_none()
        return None if row is None else Order(*row)

    def keep_order(self, array: str, order: Order) -> None:
        """Store the highest order of an array."""
        values = asdict(order)
        if not self._write(update(array_orders).where(array_orders.c.array == array).values(**values)).rowcount:
            self._write(insert(array_orders).values(array=array, **values))

    def set_member(self, record: MemberRecord) -> None:
        """Store a record under the next number; an earlier member of the same identity is removed."""
        if not record.removed:
            same = (members.c.identity == record.identity, members.c.member_uid != record.member_uid)
            query = select(members.c.member_uid).where(*same, members.c.removed.is_(False))
            for uid in self._connection.scalars(query).all():
                where = members.c.member_uid == uid
                self._write(update(members).where(where).values(removed=True, seq=self._number()))
        values = {
            "identity": record.identity,
            "array": record.array,
            "state": record.state.value,
            "primary_member": record.primary,
            "removed": record.removed,
            "seq": self._number(),
        }
        uid = record.member_uid
        if not self._write(update(members).where(members.c.member_uid == uid).values(**values)).rowcount:
            self._write(insert(members).values(member_uid=uid, **values))

    def member(self, identity: str) -> MemberRecord | None:
        """The record of the member with this SPIFFE ID, unless it was removed."""
        query = select(*COLUMNS).where(members.c.identity == identity, members.c.removed.is_(False))
        row = self._connection.execute(query).one_or_none()
        return None if row is None else member_record(row)


def member_record(row: Row[Any]) -> MemberRecord:
    """A row of `COLUMNS` as a value."""
    return MemberRecord(
        row.member_uid,
        row.identity,
        row.array,
        MemberState(row.state),
        primary=row.primary_member,
        removed=row.removed,
    )
