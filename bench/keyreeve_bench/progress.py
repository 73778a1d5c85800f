"""Progress on standard error: one changing line on a terminal, otherwise one line for each finished step."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

_EVERY = 0.1


class Progress:
    """Writes progress to standard error unless it is silent."""

    def __init__(
        self, stream: TextIO | None = None, *, silent: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._silent = silent
        self._live = not silent and self._stream.isatty()
        self._clock = clock
        self._next = 0.0
        self._since: dict[str, tuple[float, int]] = {}

    def step(self, text: str) -> None:
        """Report the start of a step."""
        self._since.clear()
        if self._live:
            self._write(f"\r\x1b[K… {text}")

    def done(self, text: str) -> None:
        """Report the end of a step."""
        if self._live:
            self._write(f"\r\x1b[K✔ {text}\n")
        elif not self._silent:
            self._write(f"{text}\n")

    def live(self, name: str) -> Callable[[str, int, int], None]:
        """Make a function that shows a phase, the certificates so far and the failures under a name."""

        def show(phase: str, acknowledged: int, failed: int) -> None:
            now = self._clock()
            if not self._live or now < self._next:
                return
            self._next = now + _EVERY
            began, before = self._since.setdefault(phase, (now, acknowledged))
            rate = (acknowledged - before) / (now - began) if now > began else 0.0
            failures = f"   {failed:,} failed" if failed else ""
            self._write(f"\r\x1b[K… {name}: {phase}   {now - began:4.1f} s   {rate:,.0f} certificates/s{failures}")

        return show

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
