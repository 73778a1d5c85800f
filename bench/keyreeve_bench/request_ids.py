"""Request ids that are cheap to make and that tell which bench made them."""

import secrets
import time
from collections.abc import Callable

MARKER_DIGITS = 12
"""Hexadecimal digits at the end of a request id that all ids of one bench share."""
MOST_PROCESSES = 64


def new_marker() -> str:
    """A marker for a bench: the last group of all its request ids."""
    return secrets.token_hex(MARKER_DIGITS // 2)


def marked_ids(marker: str, process: int, milliseconds: Callable[[], int] | None = None) -> Callable[[], str]:
    """A source of UUIDs of version 7 (RFC 9562, 5.7) that grow with time and end in the marker.

    The random bits hold a counter, as 6.2 of the RFC allows, the process's number and the marker, so ids cost a
    microsecond and the ledger can be asked for those of one bench. Sources of 64 processes never give the same id.
    `milliseconds` is the clock, since 1970.
    """
    if not 0 <= process < MOST_PROCESSES:
        raise ValueError(f"{process} is not the number of a process")
    clock = milliseconds or (lambda: time.time_ns() // 1_000_000)
    count = 0

    def next_id() -> str:
        nonlocal count
        count = count + 1 & 0xFFFFF
        stamp = f"{clock():012x}"
        # rand_a: the counter's upper 12 bits; rand_b: variant, 8 lower bits of the counter, 6 of the process.
        return f"{stamp[:8]}-{stamp[8:]}-7{count >> 8:03x}-{0x8000 | (count & 0xFF) << 6 | process:04x}-{marker}"

    return next_id
