"""`rotations.ports.RotationRecords` on both databases."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, select
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_membership.authorities.ports import KeyType
from keyreeve_membership.rotations.ports import ROTATIONS, Phase, Rotation, RotationKind, RotationMember
from keyreeve_membership.store.tables import rotation_members, rotations


class SqlRotations:
    """The rotations in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any], trust: Callable[[], SqlTrust]) -> None:
        """Take the transaction's connection and its trust tables."""
        self._trust = trust
        self._connection = connection
        self._write = write

    def add(self, rotation: Rotation) -> None:
        """Insert a rotation."""
        self._trust().rows(rotations).insert(_columns(rotation))
        touch(self._connection, ROTATIONS)

    def get(self, rotation_id: str) -> Rotation | None:
        """One rotation."""
        row = self._connection.execute(_rotations().where(rotations.c.rotation_id == rotation_id)).one_or_none()
        return None if row is None else _rotation(row)

    def page(self, *, before: str, limit: int, array_id: str) -> Sequence[Rotation]:
        """Rotations, the newest first."""
        query = _rotations().order_by(rotations.c.rotation_id.desc()).limit(limit)
        if before:
            query = query.where(rotations.c.rotation_id < before)
        if array_id:
            query = query.where(rotations.c.array_id == array_id)
        return [_rotation(row) for row in self._connection.execute(query)]

    def advance(self, before: Rotation, after: Rotation) -> bool:
        """Store `after` if phase and step are those of `before`."""
        # The row is locked and compared in one transaction; it stays as it is when it has moved on.
        changed = (
            self._trust()
            .rows(rotations)
            .update(
                and_(
                    rotations.c.rotation_id == before.rotation_id,
                    rotations.c.phase == before.phase,
                    rotations.c.step == before.step,
                    rotations.c.ended_at.is_(None),
                ),
                _columns(after),
            )
        )
        touch(self._connection, ROTATIONS)
        return changed == 1

    def members(self, rotation_id: str) -> dict[str, RotationMember]:
        """What a rotation knows of members, by uid."""
        query = select(*[rotation_members.c[f.name] for f in fields(RotationMember)])
        rows = self._connection.execute(query.where(rotation_members.c.rotation_id == rotation_id))
        return {row.member_uid: RotationMember(**row._asdict()) for row in rows}

    def put_member(self, member: RotationMember) -> None:
        """Store what a rotation knows of a member."""
        dialect = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        values = asdict(member)
        statement = dialect.insert(rotation_members).values(**values)
        key = ("rotation_id", "member_uid")
        changed = {name: statement.excluded[name] for name in values if name not in key}
        self._write(
            statement.on_conflict_do_update(index_elements=[rotation_members.c[name] for name in key], set_=changed)
        )
        touch(self._connection, ROTATIONS)


def _rotations() -> Select[Any]:
    return select(*[rotations.c[f.name] for f in fields(Rotation)])


def _columns(rotation: Rotation) -> dict[str, Any]:
    kinds = {"kind": rotation.kind.value, "phase": rotation.phase.value, "key_type": rotation.key_type.value}
    return asdict(rotation) | kinds


def _rotation(row: Row[Any]) -> Rotation:
    kinds = {"kind": RotationKind(row.kind), "phase": Phase(row.phase), "key_type": KeyType(row.key_type)}
    return Rotation(**row._asdict() | kinds)
