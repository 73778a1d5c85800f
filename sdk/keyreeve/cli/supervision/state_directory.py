"""The layout of the state directory of `keyreeve up`, `.keyreeve/`."""

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
        """The state directory at this path, whether or not it exists; the same one through any symbolic link.

        Processes are recognized by its path in their command lines.
        """
        return cls(Path(os.path.realpath(directory)))

    @property
    def context(self) -> Path:
        return self.root / "context.json"

    @property
    def certificate(self) -> Path:
        """The operator's certificate, with its chain."""
        return self.root / "me.pem"

    @property
    def key(self) -> Path:
        return self.root / "me.key"

    @property
    def bundle(self) -> Path:
        """Roots of the control hierarchy, which services must present."""
        return self.root / "control-bundle.pem"

    @property
    def estate_bundle(self) -> Path:
        """Roots of the estate hierarchy, for relying parties of its certificates."""
        return self.root / "estate-bundle.pem"

    @property
    def trust_root(self) -> Path:
        """First root of the trust metadata, for programs that follow the bundles."""
        return self.root / "trust-root.json"

    @property
    def runtime(self) -> Path:
        """Process ids, locks and the supervisor's records."""
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
        """Make the directories for the owner alone.

        What exists must belong to the caller.

        Raises `FileUnusable`: a user who can write a settings file decides what the services do as this user.
        """
        from keyreeve.context import why_not_own

        for place in (self.root, *sorted(self.root.glob("*.yaml"))):
            if why := why_not_own(place):
                raise FileUnusable(f"{why}: no services are started from it. Choose another directory with `--dir`")
        try:
            for directory in (self.root, self.runtime, self.logs):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as problem:
            raise FileUnusable(f"cannot make {problem.filename}: {problem.strerror}") from problem


def write_file(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Replace a file atomically. Raises `FileUnusable`."""
    try:
        write_atomically(path, data, mode)
    except OSError as problem:
        raise FileUnusable(f"cannot write {path}: {problem.strerror}") from problem


def read_file(path: Path, at_most: int = -1) -> bytes:
    """Read a file, or its first `at_most` bytes. Raises `FileUnusable`."""
    try:
        with path.open("rb") as file:
            return file.read(at_most)
    except OSError as problem:
        raise FileUnusable(f"cannot read {path}: {problem.strerror}") from problem
