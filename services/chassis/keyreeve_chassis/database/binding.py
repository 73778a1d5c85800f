"""Which database a state directory or a release belongs to, so that a start with another one is never a first start.

A first start on an empty database makes what exists once, such as roots. Where a first start has been seen and the database is
empty, that is a mistake: a variable was forgotten, the database was lost, or it is another server's. So what was made is
remembered outside the database, without secrets: in a file, or in Kubernetes in a Secret that uninstalling keeps. It is written
once the intention to make it is in the database, and before there is anything else: a start that is killed between the two
finds its own intention.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from keyreeve.errors import WrongDatabase
from keyreeve.files import write_atomically
from keyreeve_chassis.processes.refusals import StartRefused

_TRUST_TABLES, _SEALED = "trust_tables", "sealed"
_ROOTS = "roots"
_OPTIONAL = (_TRUST_TABLES, _ROOTS)


@dataclass(frozen=True, slots=True)
class BoundState:
    """What a database identifies itself with."""

    identity: str
    """Random: no two databases have it in common."""
    trust_domain: str

    @classmethod
    def of(cls, key_check: bytes, trust_domain: str) -> Self:
        """Derive it from the database's key check value, which was sealed with a random nonce and so is unique."""
        return cls(hashlib.sha256(key_check).hexdigest()[:32], trust_domain)


class BindingMemory(Protocol):
    """Where the binding is kept. Its text names the place, for messages."""

    def read(self) -> bytes | None:
        """What was written; None when nothing was. Raises `OSError` when that cannot be told."""
        ...

    def write(self, document: bytes) -> None:
        """Replace it. Raises `OSError`."""
        ...


@dataclass(frozen=True, slots=True)
class BindingFile:
    """A file in the state directory."""

    file: Path

    def __str__(self) -> str:
        return str(self.file)

    def read(self) -> bytes | None:
        """See `BindingMemory.read`."""
        try:
            return self.file.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, document: bytes) -> None:
        """See `BindingMemory.write`."""
        write_atomically(self.file, document, 0o600)


Recalled = Mapping[str, str] | None
"""What is remembered; None: nothing has been made yet."""


@dataclass(frozen=True, slots=True)
class DatabaseBinding:
    """Compares the database of the settings with the one that is remembered."""

    memory: BindingMemory
    place: str
    """Where the database of the settings is (`opening.place_of`)."""

    def recall(self) -> Recalled:
        """Return what is remembered; call it before the database is read, since replicas share what they remember.

        Raises `StartRefused` when it cannot be read.
        """
        try:
            text = self.memory.read()
            if text is None:
                return None
            document = json.loads(text)
            needed = {name: str(document[name]) for name in ("id", "trust_domain", "database")}
            return {**needed, **{name: str(document[name]) for name in _OPTIONAL if name in document}}
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise StartRefused(
                f"{self.memory} cannot be read ({problem}); if the database of the settings, {self.place}, is the right one, "
                "remove this note: the next start writes it again"
            ) from problem

    def check(self, found: BoundState | None, recalled: Recalled) -> None:
        """Raise `WrongDatabase` when another database is remembered; `found` is None for an empty one."""
        if recalled is None or (found is not None and recalled["id"] == found.identity):
            return
        holds = "holds no control plane" if found is None else "holds another control plane"
        raise WrongDatabase(
            f"{self.memory} notes a control plane whose database was {recalled['database']}; "
            f"the database of the settings, {self.place}, {holds}"
        )

    def remember(self, found: BoundState, *, sealed: bool = False, roots: str = "") -> None:
        """Store the database's identity, where it is now, that its trust tables have been sealed, and the first roots."""
        before = self.recall()
        document = {"id": found.identity, "trust_domain": found.trust_domain, "database": self.place}
        if sealed or self.ever_sealed(before):
            document[_TRUST_TABLES] = _SEALED
        if roots or (before is not None and _ROOTS in before):
            document[_ROOTS] = roots or (before or {})[_ROOTS]
        if before == document:
            return
        try:
            self.memory.write((json.dumps(document, indent=1) + "\n").encode())
        except OSError as problem:
            raise StartRefused(f"{self.memory} cannot be written ({problem})") from problem

    def ever_sealed(self, recalled: Recalled) -> bool:
        """Whether sealed trust tables have been seen in the database."""
        return (recalled or {}).get(_TRUST_TABLES) == _SEALED
