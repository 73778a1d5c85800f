"""The `keyreeve` command: run a control plane on one machine, and call any.

Modules that are slow to import (grpc, cryptography, the SDK's clients) are imported inside the command that needs them, so
that `keyreeve --help` is fast.
"""

import sys

__all__ = ["main"]

_EXTRA_OF = {"typer": "cli", "click": "cli", "rich": "cli", "yaml": "cli"}


def main() -> None:
    """Run the command line; exits with one of the exit codes of docs/cli.md."""
    try:
        from keyreeve.cli.program import run
    except ModuleNotFoundError as missing:
        extra = _EXTRA_OF.get((missing.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.exit(f"error: the package {missing.name} is missing: pip install 'keyreeve[{extra}]'")
    run()
