"""Running the CA service's own program for what only the machine it runs on may ask.

The command line belongs to the callers' side: it never imports a service. It runs `python -m keyreeve_ca`, whose
subcommands print one JSON document.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from keyreeve.errors import StartFailed

NOT_THERE_YET = 3
"""Exit code of `first-operator` and `recover` while the service has not opened its local socket."""


class NotThereYet(Exception):
    """The service has not opened its local socket."""


def require_services() -> None:
    """Raise `StartFailed` unless the services are installed beside this command."""
    if importlib.util.find_spec("keyreeve_ca") is None:
        raise StartFailed("the services are not installed here, only the client: pip install 'keyreeve[server,cli]'")


def ask(subcommand: str, config: Path, *arguments: str, given: bytes = b"") -> Any:  # noqa: ANN401 (JSON of a subcommand's own shape)
    """Run a subcommand and read its document. Raises `NotThereYet`, or `StartFailed` with what the program said."""
    require_services()
    command = [sys.executable, "-P", "-m", "keyreeve_ca", subcommand, "--config", str(config), *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)  # noqa: S603 (ours)
    except subprocess.TimeoutExpired:
        raise StartFailed(f"the CA's program did not answer `{subcommand}` within 60 s") from None
    if done.returncode == NOT_THERE_YET:
        raise NotThereYet
    try:
        if done.returncode == 0 or (subcommand == "check" and done.stdout.strip()):
            return json.loads(done.stdout)
        problem = f"exit code {done.returncode}"
    except ValueError:
        problem = "its answer is not JSON"
    said = done.stderr.decode(errors="replace").strip().splitlines()[-8:]
    raise StartFailed("\n       ".join([f"`{subcommand}` of the CA's program failed ({problem})", *said]))
