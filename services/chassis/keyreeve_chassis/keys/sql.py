"""Sealed keys in a service's database."""

from sqlalchemy import Connection, Table, insert, select, update

from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey


def add_key(connection: Connection, keys: Table, key: SealedKey) -> None:
    """Store a sealed key."""
    connection.execute(insert(keys).values(key_id=key.key_id, key_type=key.key_type, spki=key.spki, sealed=key.sealed))


def find_key(connection: Connection, keys: Table, key_id: str) -> SealedKey:
    """Return a sealed key. Raises `LookupError` when there is no such key, or it has been destroyed."""
    row = connection.execute(select(keys).where(keys.c.key_id == key_id)).one_or_none()
    if row is None or row.sealed is None:
        raise LookupError(f"there is no key {key_id}, or it has been destroyed")
    return SealedKey(row.key_id, KeyType(row.key_type), row.spki, row.sealed)


def destroy_key(connection: Connection, keys: Table, key_id: str) -> None:
    """Overwrite the sealed private key with nothing; the public part stays."""
    connection.execute(update(keys).where(keys.c.key_id == key_id).values(sealed=None))
