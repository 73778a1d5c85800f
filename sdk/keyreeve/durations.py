"""Durations as text."""

from datetime import timedelta

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def in_words(span: timedelta, *, units: int = len(_UNITS)) -> str:
    """Format a duration in its largest `units` units: `31 d`, `90 d 1 s`, `-5 min`."""
    seconds = int(abs(span).total_seconds())
    parts = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    text = " ".join(parts[:units]) or "0 s"
    return f"-{text}" if span < timedelta(0) else text
