"""Which database a state directory belongs to, so that a start with another one is never a first start.

A first start on an empty database makes what exists once, such as roots. A directory that has seen a first start and finds
an empty database is a mistake: a variable was forgotten, the database was lost, or it is another server's. So the directory
remembers what was made in a small file without secrets. It is written once the intention to make it is in the database,
and before there is anything else: a start that is killed between the two finds its own intention.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from keyreeve.errors import WrongDatabase
from keyreeve.files import write_atomically
from keyreeve_chassis.processes.refusals import StartRefused

_TRUST_TABLES, _SEALED = "trust_tables", "sealed"


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


@dataclass(frozen=True, slots=True)
class DatabaseBinding:
    """Compares the database of the settings with the one the state directory remembers."""

    file: Path
    place: str
    """Where the database of the settings is (`opening.place_of`)."""

    def check(self, found: BoundState | None) -> None:
        """Raise `WrongDatabase` when the directory belongs to another database; `found` is None for an empty one."""
        remembered = self._remembered()
        if remembered is None or (found is not None and remembered["id"] == found.identity):
            return
        holds = "holds no control plane" if found is None else "holds another control plane"
        raise WrongDatabase(
            f"{self.file.parent} belongs to a control plane whose database was {remembered['database']}; "
            f"the database of the settings, {self.place}, {holds}"
        )

    def remember(self, found: BoundState, *, sealed: bool = False) -> None:
        """Store what the directory belongs to, where its database is now, and that its trust tables have been sealed."""
        document = {"id": found.identity, "trust_domain": found.trust_domain, "database": self.place}
        if sealed or self.ever_sealed():
            document[_TRUST_TABLES] = _SEALED
        if self._remembered() != document:
            write_atomically(self.file, (json.dumps(document, indent=1) + "\n").encode(), 0o600)

    def ever_sealed(self) -> bool:
        """Whether the directory has seen sealed trust tables in its database."""
        return (self._remembered() or {}).get(_TRUST_TABLES) == _SEALED

    def _remembered(self) -> dict[str, str] | None:
        try:
            document = json.loads(self.file.read_bytes())
            needed = {name: str(document[name]) for name in ("id", "trust_domain", "database")}
            return {**needed, **{name: str(document[name]) for name in (_TRUST_TABLES,) if name in document}}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise StartRefused(
                f"{self.file} cannot be read ({problem}); if the database of the settings, {self.place}, is the right "
                "one, remove the file: the next start writes it again"
            ) from problem
