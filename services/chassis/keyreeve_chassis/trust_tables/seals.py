"""The MAC of a row, and the sealed head of a table. No I/O.

A row's MACs stand in its column `mac`: for each column set that its writer knew, the set's number in one octet and 16 octets of

    HMAC-SHA256(row key, LP("row", table, set, primary key values, values of the set))

A later release adds columns as a further set. The release before it does not know that set and leaves its MAC alone, which
stays true, since it does not touch those columns either. A set without a MAC is good where all its columns are NULL.

A head is sealed with the key store and holds a version, the number of rows, and the sum modulo 2^256 of one element per MAC,
HMAC-SHA256(head key, MAC). Nobody without the keys can see a sum, so nobody can look for other rows that give the same one
(MSet-Add-Hash, Clarke et al. 2003). The head of a listed table also holds each row's key and MACs, so that a difference can
be named. The index, a head of its own, holds the versions of all heads: one table cannot be put back with its head alone.
"""

import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Self

from keyreeve.length_prefix import length_prefixed
from keyreeve_chassis.keys.ports import KeyStore, KeyStoreError

MAC_BYTES = 16
ENTRY_BYTES = 1 + MAC_BYTES
INDEX = "*"
"""Name of the index among the heads."""
_KEPT = 16_384
"""Elements of sums that a process keeps: the same rows are counted again and again."""
_MODULUS = 1 << 256
_KIND = "trust table head"

Value = None | bool | int | str | bytes


class HeadUnusable(Exception):
    """A head does not open: something other than the service wrote it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a table should hold."""

    version: int = 0
    count: int = 0
    total: int = 0
    listed: Mapping[str, bytes] | None = None
    """MACs by key, for a table whose rows are listed."""

    def changed(self, delta: "Delta") -> "Head":
        """The head after the changes of one transaction."""
        listed = self.listed
        if listed is not None:
            listed = {key: mac for key, mac in {**listed, **delta.listed}.items() if mac is not None}
        return replace(
            self,
            version=self.version + 1,
            count=self.count + delta.count,
            total=(self.total + delta.total) % _MODULUS,
            listed=listed,
        )


@dataclass(slots=True)
class Delta:
    """What one transaction changes in a table."""

    count: int = 0
    total: int = 0
    listed: dict[str, bytes | None] = field(default_factory=dict)


def mac_entries(mac: bytes | None) -> dict[int, bytes]:
    """The entries of a row's MAC column by number of their column set; empty when it cannot be read."""
    if not mac or len(mac) % ENTRY_BYTES:
        return {}
    return {mac[at]: mac[at : at + ENTRY_BYTES] for at in range(0, len(mac), ENTRY_BYTES)}


class Seals:
    """Makes and checks MACs and heads with keys derived from the key-encryption key."""

    def __init__(self, row_key: bytes, head_key: bytes, keystore: KeyStore) -> None:
        self._row_key = row_key
        self._element = lru_cache(maxsize=_KEPT)(lambda entry: int.from_bytes(hmac.digest(head_key, entry, "sha256")))
        self._keystore = keystore

    @classmethod
    def of(cls, keystore: KeyStore) -> Self:
        """Derive the keys."""
        return cls(keystore.derive("trust table rows"), keystore.derive("trust table heads"), keystore)

    def entry(self, table: str, number: int, key: Sequence[Value], values: Sequence[Value]) -> bytes:
        """The MAC of one column set of a row, with the number of the set."""
        message = length_prefixed(
            b"row", table.encode(), bytes([number]), *map(_bytes, key), b"|", *map(_bytes, values)
        )
        return bytes([number]) + hmac.digest(self._row_key, message, "sha256")[:MAC_BYTES]

    def total(self, entries: Iterable[bytes]) -> int:
        """The sum of the elements of MACs, before the modulus."""
        return sum(map(self._element, entries))

    def close_head(self, table: str, head: Head) -> bytes:
        """Seal a head."""
        listed = None if head.listed is None else {key: mac.hex() for key, mac in head.listed.items()}
        document = json.dumps([head.version, head.count, str(head.total % _MODULUS), listed], separators=(",", ":"))
        return self._keystore.seal(_KIND, table, document.encode())

    def open_head(self, table: str, sealed: bytes) -> Head:
        """Open a head. Raises `HeadUnusable`."""
        try:
            version, count, total, listed = json.loads(self._keystore.unseal(_KIND, table, sealed))
        except KeyStoreError as wrong:
            raise HeadUnusable(table) from wrong
        known = None if listed is None else {key: bytes.fromhex(mac) for key, mac in listed.items()}
        return Head(version, count, int(total), known)

    def close_index(self, versions: Mapping[str, int]) -> bytes:
        """Seal the index: the version of each head."""
        return self._keystore.seal(_KIND, INDEX, json.dumps(versions, sort_keys=True).encode())

    def open_index(self, sealed: bytes) -> dict[str, int]:
        """Open the index. Raises `HeadUnusable`."""
        try:
            versions: dict[str, int] = json.loads(self._keystore.unseal(_KIND, INDEX, sealed))
        except KeyStoreError as wrong:
            raise HeadUnusable(INDEX) from wrong
        return versions


def same_total(one: int, other: int) -> bool:
    """Whether two sums agree modulo 2^256."""
    return one % _MODULUS == other % _MODULUS


def _bytes(value: Value) -> bytes:
    """A value as the MAC covers it: no two values of any type have the same bytes."""
    match value:
        case None:
            return b"n"
        case bool() | int():
            return b"i%d" % value
        case str():
            return b"s" + value.encode()
    return b"b" + value
