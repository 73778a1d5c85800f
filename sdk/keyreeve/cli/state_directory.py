"""Where everything of a control plane on one machine lies: the directory that `keyreeve up` makes, `.keyreeve/`."""

import os
from dataclasses import dataclass
from pathlib import Path

from keyreeve.errors import FileUnusable
from keyreeve.files import PUBLIC, write_atomically


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """The directory of one control plane; `root` is absolute."""

    root: Path

    @classmethod
    def at(cls, directory: Path) -> "StateDirectory":
        """The home in `directory`, whether or not it exists."""
        return cls(Path(os.path.abspath(directory)))  # noqa: PTH100 (symbolic links stay as the person wrote them)

    @property
    def context(self) -> Path:
        return self.root / "context.json"

    @property
    def certificate(self) -> Path:
        """The person's own certificate, with its chain."""
        return self.root / "me.pem"

    @property
    def key(self) -> Path:
        return self.root / "me.key"

    @property
    def bundle(self) -> Path:
        """Roots of the control hierarchy: whom the command trusts as a service."""
        return self.root / "control-bundle.pem"

    @property
    def estate_bundle(self) -> Path:
        """Roots of the estate hierarchy: whom others trust, to accept the certificates that are issued to them."""
        return self.root / "estate-bundle.pem"

    @property
    def trust_root(self) -> Path:
        """First root of the trust metadata, kept for whoever follows the bundles later."""
        return self.root / "trust-root.json"

    @property
    def runtime(self) -> Path:
        """Process ids, locks and what the supervisor knows."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    def config(self, service: str) -> Path:
        return self.root / f"{service}.yaml"

    def state(self, service: str) -> Path:
        return self.root / service

    def log(self, process: str) -> Path:
        return self.logs / f"{process}.log"

    def exists(self) -> bool:
        """Say whether `keyreeve up` has written a configuration here."""
        return self.config("ca").is_file()

    def make(self) -> None:
        """Make the directories, closed to everybody else; what is there already has to be the caller's own.

        Raises `FileUnusable`: whoever can write a configuration decides what the services do as this user.
        """
        from keyreeve.context import why_not_own

        for place in (self.root, self.config("ca")):
            if why := why_not_own(place):
                raise FileUnusable(f"{why}: nothing is run from there. `--dir` names another directory")
        try:
            for directory in (self.root, self.runtime, self.logs):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise FileUnusable(f"cannot make {problem.filename}: {problem.strerror}") from problem


def write_file(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Replace a file whole, as `write_atomically` does. Raises `FileUnusable`."""
    try:
        write_atomically(path, data, mode)
    except OSError as problem:
        raise FileUnusable(f"cannot write {path}: {problem.strerror}") from problem


def read_file(path: Path, at_most: int = -1) -> bytes:
    """Read a file that the person named, or its first `at_most` bytes. Raises `FileUnusable`."""
    try:
        with path.open("rb") as file:
            return file.read(at_most)
    except OSError as problem:
        raise FileUnusable(f"cannot read {path}: {problem.strerror}") from problem
