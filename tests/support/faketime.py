"""libfaketime: processes for which it is later."""

from support.programs import FAKETIME, find_program


def later(days: int) -> dict[str, str]:
    """An environment in which it is so many days later, or earlier."""
    return {"LD_PRELOAD": find_program(FAKETIME), "FAKETIME": f"{days:+d}d", "KEYREEVE_CA_DRAIN_SECONDS": "1"}
