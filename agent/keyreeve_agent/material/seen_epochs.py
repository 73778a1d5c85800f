"""The highest epoch of each array on disk, written before the epoch is used."""

import json
from dataclasses import dataclass
from pathlib import Path

from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE, write_atomically
from keyreeve_agent.material.epochs import SeenEpoch


@dataclass(frozen=True, slots=True)
class SeenEpochs:
    """The file of the highest epochs."""

    path: Path

    def of(self, array: str) -> SeenEpoch | None:
        """The highest epoch of an array. Raises `FileUnusable`: what cannot be read must not count as nothing seen."""
        return self._read().get(array)

    def keep(self, array: str, seen: SeenEpoch) -> None:
        """Write the highest epoch of an array and flush it to disk. Raises `FileUnusable`."""
        kept = {name: [one.restore_generation, one.epoch, one.digest.hex()] for name, one in self._read().items()}
        kept[array] = [seen.restore_generation, seen.epoch, seen.digest.hex()]
        try:
            write_atomically(self.path, json.dumps(kept).encode(), PRIVATE)
        except OSError as failure:
            raise FileUnusable(f"cannot write {self.path}: {failure}") from None

    def _read(self) -> dict[str, SeenEpoch]:
        try:
            kept = json.loads(self.path.read_bytes())
            return {
                name: SeenEpoch(int(generation), int(epoch), bytes.fromhex(digest))
                for name, (generation, epoch, digest) in kept.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as failure:
            raise FileUnusable(f"cannot read the highest epochs in {self.path}: {failure}") from None
