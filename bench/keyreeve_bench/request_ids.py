"""Request ids that are cheap to make and identify the benchmark that made them."""

import secrets
import time
from collections.abc import Callable

MARKER_DIGITS = 12
"""Hexadecimal digits at the end that all request ids of one benchmark share."""
MOST_PROCESSES = 64


def new_marker() -> str:
    """Make a marker: the last group of all request ids of a benchmark."""
    return secrets.token_hex(MARKER_DIGITS // 2)


def marked_ids(marker: str, process: int, milliseconds: Callable[[], int] | None = None) -> Callable[[], str]:
    """Make a source of version 7 UUIDs (RFC 9562, 5.7) that increase with time and end in the marker.

    In place of random bits they hold a counter (allowed by RFC 9562, 6.2), the process number and the marker: an id costs a
    microsecond, and the ledger can be queried for the ids of one benchmark. Up to 64 processes never share an id.
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
