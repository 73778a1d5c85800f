"""Findings about an installation, each with its fix."""

import stat
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: an error when it is not `ok`, a warning when it is and there is a `fix`."""

    check: str
    ok: bool
    message: str
    fix: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The finding for a JSON document."""
        return asdict(self)


def look_at_files(files: Iterable[tuple[Path, int]], *, mounted: bool = False) -> Iterator[Finding]:
    """Check that private files and directories exist, with no more than these modes.

    A mounted secret may have other modes.
    """
    for path, wanted in files:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as missing:
            yield Finding("files", ok=False, message=f"{path}: {missing.strerror}", fix="keyreeve up makes it, once")
            continue
        ok = mounted or not mode & ~wanted
        yield Finding("files", ok, f"{path} has mode {mode:04o}", "" if ok else f"chmod {wanted:o} {path}")
