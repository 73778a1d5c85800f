"""`trust.ports.CallerRecords` on both databases."""

from sqlalchemy import Connection, Row, Select, select

from keyreeve.caller_values import IssuingAuthority, OperatorRecord
from keyreeve.values import AuthorityState, OperatorRole
from keyreeve_ca.arrays.sql import COLUMNS as MEMBER_COLUMNS
from keyreeve_ca.arrays.sql import member_record
from keyreeve_ca.arrays.tables import members
from keyreeve_ca.operators.tables import operators
from keyreeve_ca.profiles.profile import Hierarchy
from keyreeve_ca.revocation.tables import revocation_head, revocations
from keyreeve_ca.store.ports import AuthorityKind
from keyreeve_ca.store.tables import authorities
from keyreeve_ca.trust.ports import CallerChanges

_HEAD = select(revocation_head.c.last_seq)
_AUTHORITIES = select(
    authorities.c.seq, authorities.c.authority_id, authorities.c.state, authorities.c.certificate_der
).where(authorities.c.hierarchy == Hierarchy.CONTROL, authorities.c.kind == AuthorityKind.INTERMEDIATE)
_OPERATORS = select(
    operators.c.seq,
    operators.c.name,
    operators.c.person_uid,
    operators.c.role,
    operators.c.since,
    operators.c.removed_at,
)
_MEMBERS = select(members.c.seq, *MEMBER_COLUMNS)
_REVOKED = (
    select(revocations.c.seq, revocations.c.serial, revocations.c.not_after)
    .join(authorities, authorities.c.authority_id == revocations.c.authority_id)
    .where(authorities.c.hierarchy == Hierarchy.CONTROL)
)


class SqlCallers:
    """The records in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def changes(self, after_seq: int, *, expiring_from: int, limit: int) -> CallerChanges:
        """What changed after a number, in order, about `limit` entries of each kind."""
        head: int = self._connection.execute(_HEAD).scalar_one()
        after = after_seq if after_seq <= head else 0
        if after == head:
            return CallerChanges(after, head, head)
        columns = (authorities.c.seq, operators.c.seq, members.c.seq, revocations.c.seq)
        queries = (_AUTHORITIES, _OPERATORS, _MEMBERS, _REVOKED.where(revocations.c.not_after >= expiring_from))
        found = [
            self._page(query.where(column > after, column <= head).order_by(column).limit(limit))
            for query, column in zip(queries, columns, strict=True)
        ]
        # A kind with a full page may go on after it; what the others have beyond that comes with the next page.
        seq = min((rows[-1].seq for rows in found if len(rows) == limit), default=head)
        cas, people, servers, revoked = ([row for row in rows if row.seq <= seq] for rows in found)
        return CallerChanges(
            after,
            seq,
            head,
            tuple(
                IssuingAuthority(f"authorities/{ca.authority_id}", AuthorityState(ca.state), ca.certificate_der)
                for ca in cas
            ),
            tuple(_record(person) for person in people),
            tuple((one.serial, one.not_after) for one in revoked),
            tuple(member_record(server) for server in servers),
        )

    def _page(self, query: Select[tuple[object, ...]]) -> list[Row[tuple[object, ...]]]:
        return list(self._connection.execute(query))


def _record(person: Row[tuple[object, ...]]) -> OperatorRecord:
    role = OperatorRole(person.role.partition("/")[2])
    removed = person.removed_at is not None
    return OperatorRecord(f"operators/{person.name}", person.person_uid, role, person.since, removed=removed)
