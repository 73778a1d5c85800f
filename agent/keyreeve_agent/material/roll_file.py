"""The last known roll on disk, so that a start without the control plane knows whom to accept."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from keyreeve.files import PRIVATE, write_atomically
from keyreeve.values import MemberState
from keyreeve_agent.material.values import RollMember


@dataclass(frozen=True, slots=True)
class RollFile:
    """The file of the roll."""

    path: Path

    def read(self) -> dict[str, RollMember]:
        """The roll; empty when it cannot be read: then nobody is accepted until the control plane is heard."""
        try:
            members = [
                RollMember(**{**one, "state": MemberState(one["state"])}) for one in json.loads(self.path.read_bytes())
            ]
        except (OSError, ValueError, TypeError, KeyError):
            return {}
        return {one.name: one for one in members}

    def write(self, roll: Mapping[str, RollMember]) -> None:
        """Write the roll. Raises `OSError`."""
        write_atomically(self.path, json.dumps([asdict(one) for one in roll.values()]).encode(), PRIVATE)
