"""Waiting for a condition in other processes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LONGEST = 60.0


def wait_for(what: str, look: Callable[[], T | None], seconds: float = LONGEST) -> T:
    """Poll until `look` returns a true value, and return it; fail with `what` after the time limit."""
    pause = threading.Event()
    until = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        pause.wait(0.02)
