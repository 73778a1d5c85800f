"""`sessions.ports.SessionRecords` on both databases."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from keyreeve.session_values import SessionMethod
from keyreeve_ca.sessions.ports import Session
from keyreeve_ca.sessions.tables import operator_sessions
from keyreeve_chassis.trust_tables.sql import SqlTrust

_NAMES = [f.name for f in fields(Session)]
COMPARED = 2_000
"""Sessions of which each ticket looks whether an earlier state was put back: about 3 ms."""
_LISTS = ("audiences", "method_families")


class SqlSessions:
    """The records in one transaction."""

    def __init__(self, connection: Connection, trust: SqlTrust, number: Callable[[], int]) -> None:
        self._connection = connection
        self._rows = trust.rows(operator_sessions)
        self._number = number

    def find(self, session_id: str) -> Session | None:
        """Read one, or None. Raises `TrustTableAltered`."""
        row = self._rows.current_one(operator_sessions.c.session_id == session_id, most=COMPARED)
        return None if row is None else _session(row)

    def is_used(self, proof_sha256: bytes) -> bool:
        """Whether a session was opened with this proof."""
        c = operator_sessions.c
        return self._connection.scalar(select(c.session_id).where(c.proof_sha256 == proof_sha256)) is not None

    def add(self, session: Session) -> None:
        """Insert a session."""
        values = {name: getattr(session, name) for name in _NAMES}
        self._rows.insert({**values, **{name: " ".join(values[name]) for name in _LISTS}, "seq": 0})

    def close(self, session: Session) -> None:
        """Store the end of a session under the next number of the feed of callers."""
        values = {"closed_at": session.closed_at, "closed_by": session.closed_by, "seq": self._number()}
        self._rows.update(operator_sessions.c.session_id == session.session_id, values)

    def page(self, now: int, *, person_uid: str | None, after: str, limit: int | None) -> Sequence[Session]:
        """Sessions that have not ended, in order of their ids, after `after`; of one person, or of all (None)."""
        c = operator_sessions.c
        query = select(operator_sessions).where(c.ends_at >= now, c.closed_at.is_(None), c.session_id > after)
        if person_uid is not None:
            query = query.where(c.person_uid == person_uid)
        return [_session(row) for row in self._rows.true_ones(query.order_by(c.session_id).limit(limit))]

    def closed_after(self, seq: int, *, ending_from: int, limit: int) -> Sequence[tuple[int, str, int]]:
        """Number, id and latest end of sessions closed above `seq`, in order; ended ones are left out.

        A row that something else has changed counts too: at worst a session ends.
        """
        c = operator_sessions.c
        query = select(c.seq, c.session_id, c.ends_at).where(c.seq > seq, c.ends_at >= ending_from)
        return [
            (row.seq, row.session_id, row.ends_at)
            for row in self._connection.execute(query.order_by(c.seq).limit(limit))
        ]


def _session(row: Mapping[Any, Any]) -> Session:
    values = {name: row[name] for name in _NAMES}
    lists = {name: tuple(values[name].split()) for name in _LISTS}
    return Session(**{**values, **lists, "method": SessionMethod(values["method"])})
