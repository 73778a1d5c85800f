"""`operations.ports.OperationRecords` on both databases."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, insert, select, update

from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.operations.ports import OPERATIONS, Operation, OperationState, Waiting

_FIXED = ("operation_id", "method", "creator", "arguments", "created_at", "cancel_requested")


class SqlOperations:
    """The records of one transaction; `must_be_writable` raises in one that only reads."""

    def __init__(self, connection: Connection, operations: Table, must_be_writable: Callable[[], None]) -> None:
        """Take the transaction's connection and the service's table."""
        self._connection = connection
        self._operations = operations
        self._must_be_writable = must_be_writable

    def add(self, operation: Operation) -> None:
        """Store a new operation."""
        self._begin_change()
        values = _columns(operation) | {"arguments": json.dumps(operation.arguments)}
        self._connection.execute(insert(self._operations).values(**values))

    def get(self, operation_id: str) -> Operation | None:
        """One operation."""
        row = self._connection.execute(
            _select(self._operations).where(self._operations.c.operation_id == operation_id)
        ).one_or_none()
        return None if row is None else _operation(row)

    def update(self, operation: Operation) -> None:
        """Store everything about an operation but what it was begun with, and whether it is to be cancelled."""
        self._begin_change()
        values = {name: value for name, value in _columns(operation).items() if name not in _FIXED}
        self._connection.execute(
            update(self._operations).where(self._operations.c.operation_id == operation.operation_id).values(**values)
        )

    def request_cancel(self, operation_id: str) -> None:
        """Ask it to end."""
        self._begin_change()
        self._connection.execute(
            update(self._operations)
            .where(self._operations.c.operation_id == operation_id)
            .values(cancel_requested=True)
        )

    def page(self, creator: str | None, *, before: str, limit: int) -> Sequence[Operation]:
        """Operations, of one creator or all, the newest first."""
        query = _select(self._operations).order_by(self._operations.c.operation_id.desc()).limit(limit)
        if creator is not None:
            query = query.where(self._operations.c.creator == creator)
        if before:
            query = query.where(self._operations.c.operation_id < before)
        return [_operation(row) for row in self._connection.execute(query)]

    def running(self) -> Sequence[Operation]:
        """Those that go on, the oldest first."""
        return [_operation(row) for row in self._connection.execute(_running(self._operations))]

    def _begin_change(self) -> None:
        self._must_be_writable()
        touch(self._connection, OPERATIONS)


def _columns(operation: Operation) -> dict[str, Any]:
    return asdict(operation) | {"waiting": json.dumps([asdict(one) for one in operation.waiting])}


def _select(operations: Table) -> Select[Any]:
    return select(*[operations.c[f.name] for f in fields(Operation)])


@cache
def _running(operations: Table) -> Select[Any]:
    """Made once: the leader of operations asks often, and to build a statement takes longer than to execute it."""
    return _select(operations).where(operations.c.state == OperationState.RUNNING).order_by(operations.c.operation_id)


def _operation(row: Row[Any]) -> Operation:
    values = row._asdict()
    values |= {
        "state": OperationState(row.state),
        "arguments": json.loads(row.arguments),
        "waiting": tuple(Waiting(**one) for one in json.loads(row.waiting)),
    }
    return Operation(**values)
