"""Which control plane a state directory belongs to, so that a start with another database is never a first start.

A first start on an empty database makes new roots. An empty database that a directory with a control plane suddenly finds
is none: a variable was forgotten, the database was lost, or it is another server's. So the directory remembers its control
control_plane in a small file without secrets, written after the intention to make one is in the database and before there is
anything else: a start that is killed between the two finds its own intention, and one on another database makes the only
control plane that will ever be complete.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from keyreeve.errors import WrongDatabase
from keyreeve.files import write_atomically
from keyreeve_ca.authorities.bootstrap import BootstrapRefused
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.ports import ControlPlaneState
from keyreeve_chassis.database.opening import place_of


@dataclass(frozen=True, slots=True)
class DatabaseBinding:
    """What a state directory remembers, held against the database of the settings."""

    file: Path
    place: str
    """Where the database of the settings is."""

    @classmethod
    def of(cls, settings: CaSettings) -> "DatabaseBinding":
        return cls(settings.state_directory / "control-plane.json", place_of(settings))

    def check(self, control_plane: ControlPlaneState | None) -> None:
        """Raise `WrongDatabase` when the directory belongs to another control plane than its database holds; None: to none."""
        remembered = self._remembered()
        if remembered is None or (control_plane is not None and remembered["id"] == identity_of(control_plane)):
            return
        holds = "holds no control plane" if control_plane is None else "holds another control plane"
        raise WrongDatabase(
            f"{self.file.parent} belongs to a control plane whose database was {remembered['database']}; "
            f"the database of the settings, {self.place}, {holds}"
        )

    def remember(self, control_plane: ControlPlaneState) -> None:
        """Note that the directory belongs to this control plane, and where its database is now."""
        document = {
            "id": identity_of(control_plane),
            "trust_domain": control_plane.trust_domain,
            "database": self.place,
        }
        if self._remembered() != document:
            write_atomically(self.file, (json.dumps(document, indent=1) + "\n").encode(), 0o600)

    def _remembered(self) -> dict[str, str] | None:
        try:
            document = json.loads(self.file.read_bytes())
            return {name: str(document[name]) for name in ("id", "trust_domain", "database")}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as problem:
            raise BootstrapRefused(
                f"{self.file} cannot be read ({problem}); if the database of the settings, {self.place}, is the right "
                "one, remove the file: the next start writes it anew"
            ) from problem


def identity_of(control_plane: ControlPlaneState) -> str:
    """What no two control planes have in common: the hash of the check value, which was sealed with a random nonce."""
    return hashlib.sha256(control_plane.key_check).hexdigest()[:32]
