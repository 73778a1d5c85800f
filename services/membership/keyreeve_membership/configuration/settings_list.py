"""The settings that there are, whom each is for, and what values it takes; no I/O."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from keyreeve import errors

PEER_SECURITY = "tarantella-config-security-peerssl-enabled"
REPORT_INTERVAL = "report-interval"
MAX_REPORT_SECONDS = 3_600


class Scope(StrEnum):
    """Whom a setting is for."""

    ARRAY = "array"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class SettingKind:
    """One setting."""

    name: str
    scope: Scope
    description: str
    values: str
    """What its values are, for people."""
    is_valid: Callable[[str], bool]


def _is_interval(value: str) -> bool:
    return value.isascii() and value.isdecimal() and str(int(value)) == value and 1 <= int(value) <= MAX_REPORT_SECONDS


SETTINGS = {
    kind.name: kind
    for kind in (
        SettingKind(
            PEER_SECURITY,
            Scope.SERVER,
            "Whether connections to other members are secured; changes only on a stopped server that stands alone.",
            "0 or 1",
            lambda value: value in {"0", "1"},
        ),
        SettingKind(
            REPORT_INTERVAL,
            Scope.ARRAY,
            "How often the agents of the array report, in seconds.",
            f"1 to {MAX_REPORT_SECONDS}",
            _is_interval,
        ),
    )
}


def kind_of(name: str) -> SettingKind:
    """The setting of a name. Raises `SettingUnknown`."""
    found = SETTINGS.get(name)
    if found is None:
        raise errors.SettingUnknown(f"there is no setting {name[:80]!a}", metadata={"setting": name[:80]})
    return found


def check_value(name: str, value: str) -> SettingKind:
    """The setting of a name, whose value this may be. Raises `SettingUnknown`, `SettingInvalid`."""
    kind = kind_of(name)
    if not kind.is_valid(value):
        raise errors.SettingInvalid(
            f"{name} is {kind.values}, not {value[:80]!a}", metadata={"setting": name, "values": kind.values}
        )
    return kind
