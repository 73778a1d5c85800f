"""libfaketime: processes for which it is later."""

from pathlib import Path

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


def later(days: int) -> dict[str, str]:
    """An environment in which it is so many days later."""
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": f"+{days}d", "KEYREEVE_CA_DRAIN_SECONDS": "1"}
