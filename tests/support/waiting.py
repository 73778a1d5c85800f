"""Waiting for a condition in other processes."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LONGEST = 60.0


def wait_for(what: str, look: Callable[[], T | None], seconds: float = LONGEST) -> T:
    """Look again and again until there is something to see; answer it. Fails with `what` when the time is over."""
    pause = threading.Event()
    until = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        pause.wait(0.02)
