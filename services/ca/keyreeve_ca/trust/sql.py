"""`trust.ports.CallerRecords` on both databases."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Table, select

from keyreeve.caller_values import IssuingAuthority, OperatorRecord
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy, OperatorRole
from keyreeve_ca.arrays.sql import member_record
from keyreeve_ca.arrays.tables import members
from keyreeve_ca.operators.tables import operators
from keyreeve_ca.revocation.tables import revocation_head, revocations
from keyreeve_ca.sessions.tables import operator_sessions
from keyreeve_ca.store.tables import authorities
from keyreeve_ca.trust.ports import CallerChanges
from keyreeve_chassis.trust_tables.sql import SqlTrust

_HEAD = select(revocation_head.c.last_seq)
_AUTHORITIES = select(authorities).where(
    authorities.c.hierarchy == Hierarchy.CONTROL, authorities.c.kind == AuthorityKind.INTERMEDIATE
)
_OPERATORS = select(operators)
_MEMBERS = select(members)
_SESSIONS = select(operator_sessions.c.seq, operator_sessions.c.session_id, operator_sessions.c.ends_at)
_REVOKED = (
    select(revocations.c.seq, revocations.c.serial, revocations.c.not_after)
    .join(authorities, authorities.c.authority_id == revocations.c.authority_id)
    .where(authorities.c.hierarchy == Hierarchy.CONTROL)
)


class SqlCallers:
    """The records in one transaction. A record that something else has changed is not told of."""

    def __init__(self, connection: Connection, trust: SqlTrust) -> None:
        self._connection = connection
        self._trust = trust

    def changes(self, after_seq: int, *, expiring_from: int, limit: int) -> CallerChanges:
        """What changed after a number, in order, about `limit` entries of each kind."""
        head: int = self._connection.execute(_HEAD).scalar_one()
        after = after_seq if after_seq <= head else 0
        if after == head:
            return CallerChanges(after, head, head)
        columns = (authorities.c.seq, operators.c.seq, members.c.seq, revocations.c.seq, operator_sessions.c.seq)
        queries = (
            _AUTHORITIES,
            _OPERATORS,
            _MEMBERS,
            _REVOKED.where(revocations.c.not_after >= expiring_from),
            _SESSIONS.where(operator_sessions.c.ends_at >= expiring_from),
        )
        found = [
            self._page(query.where(column > after, column <= head).order_by(column).limit(limit))
            for query, column in zip(queries, columns, strict=True)
        ]
        # A kind with a full page may go on after it; what the others have beyond that comes with the next page.
        seq = min((rows[-1]["seq"] for rows in found if len(rows) == limit), default=head)
        cas, people, servers, revoked, closed = ([row for row in rows if row["seq"] <= seq] for rows in found)
        return CallerChanges(
            after,
            seq,
            head,
            tuple(
                IssuingAuthority(
                    f"authorities/{ca['authority_id']}", AuthorityState(ca["state"]), ca["certificate_der"]
                )
                for ca in self._believed(authorities, cas)
            ),
            tuple(_record(person) for person in self._believed(operators, people)),
            tuple((one["serial"], one["not_after"]) for one in revoked),
            tuple(member_record(server) for server in self._believed(members, servers)),
            # Also those that something else has changed: at worst a session ends.
            tuple((one["session_id"], one["ends_at"]) for one in closed),
        )

    def _believed(self, table: Table, rows: Sequence[RowMapping]) -> list[RowMapping]:
        trusted = self._trust.rows(table)
        return [row for row in rows if trusted.is_true(row)]

    def _page(self, query: Select[Any]) -> Sequence[RowMapping]:
        return self._connection.execute(query).mappings().all()


def _record(person: RowMapping) -> OperatorRecord:
    role = OperatorRole(person["role"].partition("/")[2])
    removed = person["removed_at"] is not None
    return OperatorRecord(f"operators/{person['name']}", person["person_uid"], role, person["since"], removed=removed)
