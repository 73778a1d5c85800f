"""The relief: a process that has imported what a worker needs and waits until it is told which worker to become.

It reads no settings and touches no database before that, so the worker it becomes is one that has started then.
"""

import ctypes
import os
import sys
from pathlib import Path

from keyreeve_ca import app, worker
from keyreeve_ca.master import STANDING_BY

_STANDARD_INPUT = 0
_ROLE, _BECOMES = b"relief", b"worker"
_ARGUMENTS_START = 47
"""Which word of /proc/self/stat (proc(5)) tells where this process's arguments lie in its memory."""

assert all((app, worker)), "imported for the worker to come"


def stand_by() -> list[str] | None:
    """Say that this process stands by, and wait for the arguments of the worker to become; None: there is none to come."""
    sys.stdout.buffer.write(STANDING_BY)
    sys.stdout.buffer.flush()
    told = b""
    # Octet by octet: what follows is read by whatever watches for the parent's death.
    while not told.endswith(b"\n"):
        octet = os.read(_STANDARD_INPUT, 1)
        if not octet:
            return None
        told += octet
    _show_as_worker()
    return told.decode().split()


def _show_as_worker() -> None:
    """Have lists of processes call this one a worker, by writing over its own arguments; their length stays."""
    words = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    if _ROLE not in words:
        return
    place = sum(len(word) + 1 for word in words[: words.index(_ROLE)])
    # The second word is in parentheses and may hold blanks.
    stat = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start = int(stat[_ARGUMENTS_START - 2])
    if start:  # not shown to a process that may not be looked into
        ctypes.memmove(start + place, _BECOMES, len(_BECOMES))
