"""`roll.ports.RollRecords` on both databases."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_membership.roll.ports import (
    MEMBERS,
    Acknowledgement,
    Array,
    ArrayState,
    ArrayView,
    Member,
    MemberEvent,
    MemberState,
    PeerReach,
    Report,
    ReportFacts,
)
from keyreeve_membership.store.tables import acknowledgements, arrays, member_events, members, reports, roll_state

_MOST_BOUND = 500
"""Values in one statement."""


class SqlRoll:
    """The roll in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(
        self, connection: Connection, write: Callable[[Any], Any], now: int, trust: Callable[[], SqlTrust]
    ) -> None:
        """Take the transaction's connection and time, and its trust tables."""
        self._trust = trust
        self._connection = connection
        self._write = write
        self._now = now

    def lock_array(self, array_id: str) -> Array | None:
        """Return an array, locked until the end of the transaction (on SQLite the transaction is alone)."""
        row = self._connection.execute(_arrays().where(arrays.c.array_id == array_id).with_for_update()).one_or_none()
        return None if row is None else _array(row)

    def array(self, array_id: str) -> Array | None:
        """Return an array."""
        row = self._connection.execute(_arrays().where(arrays.c.array_id == array_id)).one_or_none()
        return None if row is None else _array(row)

    def arrays(self, *, after: str, limit: int, dissolved: bool) -> Sequence[Array]:
        """Arrays in order of their names."""
        query = _arrays().where(arrays.c.array_id > after).order_by(arrays.c.array_id).limit(limit)
        if not dissolved:
            query = query.where(arrays.c.state == ArrayState.ACTIVE)
        return [_array(row) for row in self._connection.execute(query)]

    def add_array(self, array: Array) -> None:
        """Insert an array."""
        self._trust().rows(arrays).insert(_array_columns(array))

    def update_array(self, array: Array) -> None:
        """Replace an array's record."""
        values = _array_columns(array)
        self._trust().rows(arrays).update(arrays.c.array_id == values.pop("array_id"), values)

    def member(self, name: str) -> Member | None:
        """The server that has this name now."""
        query = _members().where(members.c.name == name, members.c.state != MemberState.DETACHED)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _member(row)

    def member_of(self, member_uid: str) -> Member | None:
        """The server with this uid."""
        row = self._connection.execute(_members().where(members.c.member_uid == member_uid)).one_or_none()
        return None if row is None else _member(row)

    def members_of(self, array_id: str) -> Sequence[Member]:
        """The members of an array in order of their names."""
        query = _members().where(members.c.array_id == array_id, members.c.state != MemberState.DETACHED)
        return [_member(row) for row in self._connection.execute(query.order_by(members.c.name))]

    def joining(self, array_id: str) -> Sequence[Member]:
        """The servers that are joining an array."""
        query = _members().where(members.c.joining_array_id == array_id).order_by(members.c.name)
        return [_member(row) for row in self._connection.execute(query)]

    def members(self, *, after: str, limit: int, array_id: str, detached: bool) -> Sequence[Member]:
        """Members in order of name and uid; `after` is `name uid`."""
        key = members.c.name + " " + members.c.member_uid
        query = _members().where(key > after).order_by(key).limit(limit)
        if array_id:
            query = query.where(members.c.array_id == array_id)
        if not detached:
            query = query.where(members.c.state != MemberState.DETACHED)
        return [_member(row) for row in self._connection.execute(query)]

    def changed(self, after_revision: int, limit: int) -> Sequence[Member]:
        """Members changed after a revision, in order of their revisions."""
        query = _members().where(members.c.revision > after_revision).order_by(members.c.revision).limit(limit)
        return [_member(row) for row in self._connection.execute(query)]

    def revision(self) -> int:
        """The revision of the roll."""
        return int(self._connection.execute(select(roll_state.c.revision)).scalar_one())

    def published(self) -> int:
        """The revision up to which the CA has been told of members."""
        return int(self._connection.execute(select(roll_state.c.published)).scalar_one())

    def set_published(self, revision: int) -> None:
        """Store up to which revision the CA has been told."""
        self._write(update(roll_state).values(published=revision))

    def put_member(self, member: Member, event: str, actor: str, comment: str = "") -> Member:
        """Store a member as a new revision, with its event in the history."""
        self._write(update(roll_state).values(revision=roll_state.c.revision + 1))
        stored = replace(member, revision=self.revision())
        values = _member_columns(stored)
        rows = self._trust().rows(members)
        if not rows.update(members.c.member_uid == member.member_uid, values):
            rows.insert(values)
        event_row = MemberEvent(
            stored.revision, stored.member_uid, stored.name, stored.array_id, event, actor, comment, self._now
        )
        self._write(insert(member_events).values(**asdict(event_row)))
        touch(self._connection, MEMBERS)
        return stored

    def history(self, name: str, *, after: int, limit: int) -> Sequence[MemberEvent]:
        """The events after a revision of all servers that have had a name, the oldest first."""
        query = select(*[member_events.c[f.name] for f in fields(MemberEvent)])
        # Over the index of uids: the events of all servers are many, and no other query is by their names.
        named = select(members.c.member_uid).where(members.c.name == name)
        query = query.where(member_events.c.member_uid.in_(named), member_events.c.revision > after)
        rows = self._connection.execute(query.order_by(member_events.c.revision).limit(limit))
        return [MemberEvent(**row._asdict()) for row in rows]

    def report(self, member_uid: str) -> Report | None:
        """The last report of a server."""
        return self.reports([member_uid]).get(member_uid)

    def reports(self, member_uids: Sequence[str]) -> dict[str, Report]:
        """The last reports of servers, by uid."""
        return {row.member_uid: _report(row) for row in self._of(reports, Report, member_uids)}

    def report_facts(self, member_uids: Sequence[str]) -> dict[str, ReportFacts]:
        """Parts of the last reports of servers, by uid."""
        rows = self._of(reports, ReportFacts, member_uids)
        return {row.member_uid: ReportFacts(**row._asdict()) for row in rows}

    def put_report(self, report: Report) -> None:
        """Store a server's report in place of the one before."""
        self._put(reports, _report_columns(report))

    def acknowledgements(self, member_uids: Sequence[str]) -> dict[str, Acknowledgement]:
        """What servers have acknowledged, by uid."""
        rows = self._of(acknowledgements, Acknowledgement, member_uids)
        return {row.member_uid: Acknowledgement(**row._asdict()) for row in rows}

    def put_acknowledgement(self, acknowledgement: Acknowledgement) -> None:
        """Store a server's acknowledgement in place of the one before."""
        self._put(acknowledgements, asdict(acknowledgement))

    def _of(self, table: Table, kind: type[Any], member_uids: Sequence[str]) -> list[Row[Any]]:
        found: list[Row[Any]] = []
        for start in range(0, len(member_uids), _MOST_BOUND):
            query = select(*[table.c[f.name] for f in fields(kind)])
            query = query.where(table.c.member_uid.in_(member_uids[start : start + _MOST_BOUND]))
            found += self._connection.execute(query).all()
        return found

    def _put(self, table: Table, values: dict[str, Any]) -> None:
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        statement = dialect.insert(table).values(**values)
        changed = {name: statement.excluded[name] for name in values if name != "member_uid"}
        self._write(statement.on_conflict_do_update(index_elements=[table.c.member_uid], set_=changed))


def _arrays() -> Select[Any]:
    return select(*[arrays.c[f.name] for f in fields(Array)])


def _array_columns(array: Array) -> dict[str, Any]:
    return asdict(array) | {"state": array.state.value, "backups": json.dumps(array.backups)}


def _array(row: Row[Any]) -> Array:
    return Array(**row._asdict() | {"state": ArrayState(row.state), "backups": tuple(json.loads(row.backups))})


def _members() -> Select[Any]:
    return select(*[members.c[f.name] for f in fields(Member)])


def _member_columns(member: Member) -> dict[str, Any]:
    return asdict(member) | {"state": member.state.value, "external_names": json.dumps(member.external_names)}


def _member(row: Row[Any]) -> Member:
    names = tuple(json.loads(row.external_names))
    return Member(**row._asdict() | {"state": MemberState(row.state), "external_names": names})


def _report_columns(report: Report) -> dict[str, Any]:
    small = {one.name: getattr(report, one.name) for one in fields(Report)}
    return small | {"view": _view_text(report.view), "peers": json.dumps([asdict(one) for one in report.peers])}


@functools.lru_cache(maxsize=64)
def _view_text(view: ArrayView | None) -> str:
    """The column of a view; the members of an array all report the same one."""
    return json.dumps(None if view is None else asdict(view) | {"digest": view.digest.hex()})


def _report(row: Row[Any]) -> Report:
    view = json.loads(row.view)
    if view is not None:
        view = ArrayView(**view | {"members": tuple(view["members"]), "digest": bytes.fromhex(view["digest"])})
    peers = tuple(PeerReach(**one) for one in json.loads(row.peers))
    return Report(**row._asdict() | {"view": view, "peers": peers})
