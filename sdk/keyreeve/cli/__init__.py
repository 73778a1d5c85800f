"""The `keyreeve` command: starts a control plane on one machine, and calls one anywhere.

Whatever is slow to import (grpc, cryptography, the SDK's clients) is imported inside the command that needs it, so that
`keyreeve --help` answers at once.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line; the process ends with one of the exit codes of docs/cli.md."""
    from keyreeve.cli.program import run

    run()
