"""Authorities in the database: the statements behind `store.ports.Transaction`."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, func, select

from keyreeve import errors
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.store.ports import Authority
from keyreeve_ca.store.tables import authorities, serial_blocks
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.trust_tables.sql import SqlTrustRows

_COLUMNS = [authorities.c[f.name] for f in fields(Authority)]


def add(connection: Connection, rows: SqlTrustRows, authority: Authority, seq: int | None) -> None:
    """Insert an authority. Raises `AuthorityExists`."""
    known = select(authorities.c.authority_id).where(authorities.c.authority_id == authority.authority_id)
    if connection.execute(known).first() is not None:
        raise errors.AuthorityExists(
            f"there is an authority {authority.authority_id!r}", metadata={"authority": authority.authority_id}
        )
    rows.insert({"block_count": 0, "seq": 0, **_values(authority, seq)})


def find(connection: Connection, authority_id: str) -> Authority:
    """Read an authority. Raises `AuthorityNotFound`."""
    query = select(*_COLUMNS).where(authorities.c.authority_id == authority_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise _no_authority(authority_id)
    return _authority(row)


def page(connection: Connection, *, after: str, limit: int | None) -> Sequence[Authority]:
    """Authorities ordered by id, from the one after `after`."""
    by_id = authorities.c.authority_id
    query = select(*_COLUMNS).where(by_id > after).order_by(by_id).limit(limit)
    return [_authority(row) for row in connection.execute(query)]


def replace(rows: SqlTrustRows, authority: Authority, seq: int | None) -> None:
    """Store the new state and times of an authority; `seq` as in `add`.

    Raises `AuthorityNotFound`, `TrustTableAltered`.
    """
    values = _values(authority, seq)
    if rows.update(authorities.c.authority_id == values.pop("authority_id"), values) != 1:
        raise _no_authority(authority.authority_id)


def last_expiry(connection: Connection, authority_id: str) -> int | None:
    """Latest notAfter among the certificates and subordinate CAs that this authority issued."""
    of_leaves = select(func.max(serial_blocks.c.last_not_after)).where(serial_blocks.c.authority_id == authority_id)
    of_authorities = select(func.max(authorities.c.not_after)).where(
        authorities.c.issuer_id == authority_id, authorities.c.authority_id != authority_id
    )
    found = [connection.scalar(query) for query in (of_leaves, of_authorities)]
    return max((t for t in found if t is not None), default=None)


def _values(authority: Authority, seq: int | None) -> dict[str, Any]:
    return asdict(authority) | ({} if seq is None else {"seq": seq})


def _authority(row: Row[Any]) -> Authority:
    values = row._asdict()
    values |= {
        "hierarchy": Hierarchy(row.hierarchy),
        "kind": AuthorityKind(row.kind),
        "state": AuthorityState(row.state),
        "key_type": KeyType(row.key_type),
    }
    return Authority(**values)


def _no_authority(authority_id: str) -> errors.AuthorityNotFound:
    return errors.AuthorityNotFound(f"there is no authority {authority_id!r}", metadata={"authority": authority_id})
