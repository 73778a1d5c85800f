"""Files as the use cases see them, and the port to their records."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from keyreeve.length_prefix import length_prefixed
from keyreeve_credentials.keys.ports import KeyTransaction, Sealed

MOST_FILES = 1000
"""Of one server."""
CONTENTS = "contents"
"""Name of the sealed field."""


FILE_ROW = "file-row"
"""Field of an audit record that tells of a file's row."""


@dataclass(frozen=True, slots=True)
class Space:
    """The file space of a server."""

    array_id: str
    server: str

    @property
    def name(self) -> str:
        """`arrays/{array}/servers/{server}`."""
        return f"arrays/{self.array_id}/servers/{self.server}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as it is stored. Times are seconds since 1970."""

    space: Space
    file_uid: str
    name: str
    size: int
    holds_private_key: bool
    version: int
    encryption: int
    """Counts the encryptions: the version in the associated data."""
    created_at: int
    updated_at: int
    sealed: Sealed = field(repr=False)

    @property
    def resource_name(self) -> str:
        """`arrays/{array}/servers/{server}/files/{file}`."""
        return f"{self.space.name}/files/{self.name}"

    def row_sha256(self) -> bytes:
        """H(row): SHA-256 over what is stored."""
        texts = (self.space.array_id, self.space.server, self.file_uid, self.name, self.sealed.kek_id)
        numbers = (self.size, self.version, self.encryption, self.created_at, self.updated_at)
        return hashlib.sha256(
            length_prefixed(
                *(text.encode() for text in texts),
                *(number.to_bytes(8, "big", signed=True) for number in numbers),
                self.sealed.wrapped_key,
                self.sealed.fields[CONTENTS],
            )
        ).digest()


class KeyFileRecords(Protocol):
    """The records of one transaction."""

    def names(self, space: Space) -> frozenset[str]:
        """Names of all files of a server."""
        ...

    def get(self, space: Space, name: str) -> StoredFile | None: ...
    def page(self, space: Space, *, after: str, limit: int) -> Sequence[StoredFile]:
        """Files in order of their names, after one."""
        ...

    def add(self, made: StoredFile) -> None: ...
    def replace(self, changed: StoredFile, *, encryption: int) -> bool:
        """Store another state; False when its encryption is not the one given."""
        ...

    def delete(self, space: Space, name: str) -> bool: ...
    def scan(self, after: str, limit: int) -> Sequence[StoredFile]:
        """Files of all servers in order of their uids, after one."""
        ...

    def uses(self, space: Space) -> Mapping[str, tuple[str, ...]]:
        """The services that files are assigned to, by the files' names."""
        ...

    def assign(self, space: Space, service: str, names: Sequence[str]) -> None:
        """Assign files to a service instead of those so far."""
        ...


class KeyFileTransaction(KeyTransaction, Protocol):
    """A transaction that holds files and keys."""

    @property
    def key_files(self) -> KeyFileRecords: ...
