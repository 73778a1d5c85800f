"""The `keyreeve` command: run a control plane on one machine, and call any.

Modules that are slow to import (grpc, cryptography, the SDK's clients) are imported inside the command that needs them, so
that `keyreeve --help` is fast.
"""

__all__ = ["main"]


def main() -> None:
    """Run the command line; exits with one of the exit codes of docs/cli.md."""
    from keyreeve.cli.program import run

    run()
