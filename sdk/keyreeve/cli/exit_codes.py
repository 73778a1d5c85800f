"""Errors of commands: the exit code of each, and its text or document.

The codes are part of the contract with scripts: 0 done, 1 refused, 2 usage, 3 not reachable, 4 not allowed.
"""

import sys
from enum import IntEnum

from keyreeve.errors import (
    ContextInvalid,
    DeadlinePassed,
    FileUnusable,
    KeyreeveError,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    NOT_REACHABLE = 3
    NOT_ALLOWED = 4
    INTERRUPTED = 130


def exit_code(error: KeyreeveError) -> Exit:
    """Return the exit code of a command that fails with this error."""
    match error:
        case FileUnusable():
            return Exit.USAGE
        case Unauthenticated() | PermissionDenied():
            return Exit.NOT_ALLOWED
        case Unavailable() | DeadlinePassed() | ContextInvalid():
            return Exit.NOT_REACHABLE
    return Exit.REFUSED


def error_document(error: KeyreeveError) -> dict[str, object]:
    """Return an error as plain values, for `--output json` and `yaml`."""
    reason = error.metadata.get("reason", error.reason)
    document: dict[str, object] = {
        "reason": reason,
        "code": error.code,
        "message": error.message,
        "cause": type(error).cause(),
        "fix": error.fix,
        "who": error.who,
        "metadata": error.metadata,
        "violations": [{"field": v.field, "description": v.description} for v in error.violations],
    }
    if error.retry_after is not None:
        document["retry_after_seconds"] = error.retry_after.total_seconds()
    return {"error": document}


def error_text(error: KeyreeveError, *, red: str = "", plain: str = "") -> str:
    """Format an error as text: what happened, why, and what to do.

    `red` and `plain` switch the color.
    """
    reason = error.metadata.get("reason", error.reason)
    lines = [f"{red}error:{plain} {error.message}"]
    violations = (f"{v.field}: {v.description}" for v in error.violations)
    lines += [f"       {line}" for line in violations if line != error.message]
    lines.append(f"  why: {type(error).cause()}")
    lines.append(f"  fix: {error.fix}")
    if error.retry_after is not None:
        lines.append(f"       (the service asks for a delay of {error.retry_after.total_seconds():g} s)")
    metadata = ", ".join(f"{k}={v}" for k, v in error.metadata.items() if k != "reason")
    lines.append(f"  reason: {reason}" + (f" ({metadata})" if metadata else ""))
    return "\n".join(lines)


def print_error(line: str) -> None:
    """Print a line on standard error, apart from the output of the command."""
    print(line, file=sys.stderr)  # noqa: T201
