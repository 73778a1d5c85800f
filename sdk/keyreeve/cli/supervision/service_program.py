"""Run a service's own program for what may be asked on its machine only.

The command line never imports a service: it runs `python -m keyreeve_ca`, whose subcommands print one JSON document.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from keyreeve.errors import PackageMissing, StartFailed

_NEEDED = ("sqlalchemy", "structlog", "pydantic", "aiohttp", "alembic")
"""Packages of the extra `server`, without which a service ends at its start."""
NOT_THERE_YET = 3
"""Exit code of the subcommands that use the service's local socket while it is not open."""


class NotThereYet(Exception):
    """The service's local socket is not open."""


def require_module(module: str) -> None:
    """Raise `PackageMissing` unless a service is installed beside this command."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # of the package that the module is in
        found = None
    if found is not None and (missing := [each for each in _NEEDED if importlib.util.find_spec(each) is None]):
        raise PackageMissing(
            f"packages of the services are missing ({', '.join(missing)}): pip install 'keyreeve[server,cli]'"
        )
    if found is None:
        raise PackageMissing("the services are not installed here, only the client: pip install 'keyreeve[server,cli]'")


def ask(  # JSON of a subcommand's own shape
    subcommand: str, config: Path, *arguments: str, module: str = "keyreeve_ca", given: bytes = b""
) -> Any:  # noqa: ANN401
    """Run a subcommand and read its document.

    Raises `NotThereYet`, or `StartFailed` with what the program printed.
    """
    require_module(module)
    command = [sys.executable, "-P", "-m", module, subcommand, "--config", str(config), *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)  # noqa: S603 (ours)
    except subprocess.TimeoutExpired:
        raise StartFailed(f"`{module} {subcommand}` did not answer within 60 s") from None
    if done.returncode == NOT_THERE_YET:
        raise NotThereYet
    try:
        if done.returncode == 0 or (subcommand == "check" and done.stdout.strip()):
            return json.loads(done.stdout)
        problem = f"exit code {done.returncode}"
    except ValueError:
        problem = "its answer is not JSON"
    said = done.stderr.decode(errors="replace").strip().splitlines()[-8:]
    raise StartFailed("\n       ".join([f"`{module} {subcommand}` failed ({problem})", *said]))
