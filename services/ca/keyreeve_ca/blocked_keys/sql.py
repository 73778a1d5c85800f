"""`blocked_keys.ports.BlockedKeys` on both databases."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, select

from keyreeve_ca.blocked_keys.ports import BlockedKey
from keyreeve_ca.blocked_keys.tables import blocked_keys
from keyreeve_chassis.trust_tables.sql import SqlTrust

_NAMES = [f.name for f in fields(BlockedKey)]
_PER_QUERY = 500


class SqlBlockedKeys:
    """The blocked keys in one transaction."""

    def __init__(self, connection: Connection, trust: SqlTrust) -> None:
        self._connection = connection
        self._rows = trust.rows(blocked_keys)

    def all(self) -> frozenset[bytes]:
        """The hashes of all blocked keys: a row that something else has changed blocks its key too."""
        return frozenset(self._connection.scalars(select(blocked_keys.c.spki_sha256)))

    def find(self, spki_sha256: bytes) -> BlockedKey | None:
        """Read one, or None. Raises `TrustTableAltered`."""
        row = self._rows.one(blocked_keys.c.spki_sha256 == spki_sha256)
        return None if row is None else _key(row)

    def page(self, *, after: bytes, limit: int) -> Sequence[BlockedKey]:
        """Keys in order of their hashes, after `after`."""
        by_hash = blocked_keys.c.spki_sha256
        query = select(blocked_keys).where(by_hash > after).order_by(by_hash).limit(limit)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def add(self, new: Mapping[bytes, BlockedKey]) -> int:
        """Block keys that are not yet; return how many."""
        hashes, known = list(new), set[bytes]()
        for at in range(0, len(hashes), _PER_QUERY):
            query = select(blocked_keys.c.spki_sha256)
            known |= set(
                self._connection.scalars(query.where(blocked_keys.c.spki_sha256.in_(hashes[at : at + _PER_QUERY])))
            )
        made = [asdict(key) for spki_sha256, key in new.items() if spki_sha256 not in known]
        self._rows.insert(*made)
        return len(made)

    def put(self, key: BlockedKey) -> None:
        """Replace the record of a blocked key. Raises `TrustTableAltered`."""
        values = asdict(key)
        self._rows.update(blocked_keys.c.spki_sha256 == values.pop("spki_sha256"), values)

    def remove(self, spki_sha256: bytes) -> None:
        """Delete a record."""
        self._rows.delete(blocked_keys.c.spki_sha256 == spki_sha256)


def _key(row: Mapping[Any, Any]) -> BlockedKey:
    return BlockedKey(**{name: row[name] for name in _NAMES})
