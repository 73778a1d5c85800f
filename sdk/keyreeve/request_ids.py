"""Request ids, which make mutations idempotent: UUIDv7 (RFC 9562)."""

import secrets
import time


def new_request_id() -> str:
    """Make a request id."""
    return uuid7(time.time_ns() // 1_000_000, secrets.token_bytes(10))


def uuid7(unix_milliseconds: int, random: bytes) -> str:
    """Make the UUIDv7 of a time and 10 random octets, as text.

    It has 36 characters in lower case; later ones sort later.
    """
    value = (unix_milliseconds & (1 << 48) - 1) << 80 | int.from_bytes(random)
    value = value & ~(0xF << 76) | 7 << 76  # version
    value = value & ~(0b11 << 62) | 0b10 << 62  # variant
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
