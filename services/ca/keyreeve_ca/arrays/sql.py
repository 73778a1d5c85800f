"""`arrays.ports.ArrayRecords` on both databases."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, and_, select

from keyreeve.caller_values import MemberRecord
from keyreeve.values import MemberState
from keyreeve_ca.arrays.ports import Order
from keyreeve_ca.arrays.tables import array_orders, members
from keyreeve_chassis.trust_tables.sql import SqlTrust

_ORDER = [array_orders.c[f.name] for f in fields(Order)]


class SqlArrays:
    """The records in one transaction."""

    def __init__(self, connection: Connection, trust: SqlTrust, number: Callable[[], int], *, writable: bool) -> None:
        self._connection = connection
        self._orders = trust.rows(array_orders)
        self._members = trust.rows(members)
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
        if not self._orders.update(array_orders.c.array == array, values):
            self._orders.insert({"array": array, **values})

    def set_member(self, record: MemberRecord) -> None:
        """Store a record under the next number; an earlier member of the same identity is removed."""
        if not record.removed:
            same = (members.c.identity == record.identity, members.c.member_uid != record.member_uid)
            query = select(members.c.member_uid).where(*same, members.c.removed.is_(False))
            for uid in self._connection.scalars(query).all():
                self._members.update(members.c.member_uid == uid, {"removed": True, "seq": self._number()})
        values = {
            "identity": record.identity,
            "array": record.array,
            "state": record.state.value,
            "primary_member": record.primary,
            "removed": record.removed,
            "seq": self._number(),
        }
        uid = record.member_uid
        if not self._members.update(members.c.member_uid == uid, values):
            self._members.insert({"member_uid": uid, **values})

    def member(self, identity: str) -> MemberRecord | None:
        """The record of the member with this SPIFFE ID, unless it was removed."""
        row = self._members.one(and_(members.c.identity == identity, members.c.removed.is_(False)))
        return None if row is None else member_record(row)


def member_record(row: Mapping[Any, Any]) -> MemberRecord:
    """A row of the table as a value."""
    return MemberRecord(
        row["member_uid"],
        row["identity"],
        row["array"],
        MemberState(row["state"]),
        primary=row["primary_member"],
        removed=row["removed"],
    )
