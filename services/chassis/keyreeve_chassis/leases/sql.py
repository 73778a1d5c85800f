"""`ports.Leases` on both databases, and the table that they are kept in.

Time is the database's: `clock_timestamp()` on PostgreSQL, where several processes compete. On SQLite one process has the
file, and the service's clock serves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Delete,
    Insert,
    MetaData,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    extract,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_chassis.leases.ports import Lease, LeaseLost


def lease_table(metadata: MetaData) -> Table:
    """Define the table, for a service's own metadata. A row is never deleted: its fence must never restart."""
    return Table(
        "leases",
        metadata,
        Column("name", Text, primary_key=True),
        Column("fence", BigInteger, nullable=False),
        Column("owner_nonce", Text, nullable=False),
        Column("expires_ms", BigInteger, nullable=False),  # milliseconds since 1970; 0: released
    )


class SqlLeases:
    """The leases in one transaction; `must_be_writable` raises in one that only reads."""

    def __init__(self, connection: Connection, leases: Table, now: int, must_be_writable: Callable[[], None]) -> None:
        """Take the transaction's connection; `now` is the service's clock in seconds since 1970."""
        self._connection = connection
        on_postgresql = connection.dialect.name == "postgresql"
        self._statements = _statements(leases, on_postgresql)
        self._clock = {} if on_postgresql else {"now": now * 1000}
        self._must_be_writable = must_be_writable

    def current(self, name: str) -> Lease | None:
        """Return the lease that has not expired."""
        row = self._connection.execute(self._statements.current, {"lease": name, **self._clock}).one_or_none()
        return None if row is None else Lease(*row)

    def acquire(self, name: str, owner_nonce: str, seconds: float, *, take_over: bool = False) -> Lease | None:
        """Acquire the lease when there is none or it has expired, or in any case to `take_over`; else return None."""
        wanted = {"lease": name, "owner": owner_nonce, "length": _milliseconds(seconds), "take_over": take_over}
        row = self._write(self._statements.acquire, wanted).one_or_none()
        return None if row is None else Lease(*row)

    def renew(self, lease: Lease, seconds: float) -> None:
        """Let the lease expire in so many seconds from now. Raises `LeaseLost`."""
        self._update_held(self._statements.renew, lease, {"length": _milliseconds(seconds)})

    def check(self, lease: Lease) -> None:
        """Lock the lease against acquisition until this transaction ends. Raises `LeaseLost`."""
        self._update_held(self._statements.check, lease, {})

    def release(self, name: str, owner_nonce: str) -> None:
        """Let the lease expire now if this owner has it."""
        self._must_be_writable()
        self._connection.execute(self._statements.release, {"lease": name, "owner": owner_nonce})

    def _update_held(self, statement: Update, lease: Lease, values: dict[str, Any]) -> None:
        held = {"lease": lease.name, "held_fence": lease.fence, "owner": lease.owner_nonce}
        if self._write(statement, held | values).rowcount != 1:
            raise LeaseLost(f"the lease {lease.name!r} (fence {lease.fence}) has expired or has another owner")

    def _write(self, statement: Insert | Update | Delete, values: dict[str, Any]) -> Any:  # noqa: ANN401
        self._must_be_writable()
        return self._connection.execute(statement, values | self._clock)


@dataclass(frozen=True, slots=True)
class _Statements:
    current: Select[Any]
    acquire: Insert
    renew: Update
    check: Update
    release: Update


@cache
def _statements(leases: Table, on_postgresql: bool) -> _Statements:
    """Made once: a leader checks its lease with each write, and to build a statement takes longer than to execute it."""
    t, now = leases.c, _clock(on_postgresql=on_postgresql)
    lease = (t.name, t.fence, t.owner_nonce)
    named, owned = t.name == bindparam("lease"), t.owner_nonce == bindparam("owner")
    expiry = now + bindparam("length", type_=BigInteger)
    held = update(leases).where(named, t.fence == bindparam("held_fence"), owned, t.expires_ms > now)
    new = (postgresql.insert if on_postgresql else sqlite.insert)(leases).values(
        name=bindparam("lease"), fence=1, owner_nonce=bindparam("owner"), expires_ms=expiry
    )
    acquire = new.on_conflict_do_update(
        index_elements=[t.name],
        set_={"fence": t.fence + 1, "owner_nonce": new.excluded.owner_nonce, "expires_ms": new.excluded.expires_ms},
        where=or_(t.expires_ms <= now, bindparam("take_over", type_=Boolean)),
    )
    return _Statements(
        current=select(*lease).where(named, t.expires_ms > now),
        acquire=acquire.returning(*lease),
        renew=held.values(expires_ms=expiry),
        check=held.values(fence=t.fence),
        release=update(leases).where(named, owned).values(expires_ms=0),
    )


def _clock(*, on_postgresql: bool) -> ColumnElement[int]:
    """Milliseconds since 1970, where the statement is executed."""
    if not on_postgresql:
        return bindparam("now", type_=BigInteger)
    return cast(func.floor(extract("epoch", func.clock_timestamp()) * 1000), BigInteger)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
