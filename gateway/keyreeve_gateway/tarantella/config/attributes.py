"""The attributes that `tarantella config` knows: who owns each, and how its values are written. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keyreeve_gateway.invocation import CommandFailed


@dataclass(frozen=True, slots=True)
class Notation:
    """How the values of an attribute are written."""

    shown: Mapping[Any, str]
    """Texts by value; empty: numbers."""

    def read(self, name: str, text: str) -> object:
        """The value of a text. Raises `CommandFailed`."""
        for value, form in self.shown.items():
            if form == text:
                return value
        if not self.shown and text.isascii() and text.isdigit() and len(text) < 6:
            return int(text)
        raise CommandFailed(f"{name} takes {self.described}; nothing was changed")

    def write(self, value: object) -> str:
        """The text of a value."""
        return self.shown.get(value, str(value))

    @property
    def described(self) -> str:
        """The possible values."""
        return " or ".join(self.shown.values()) or "a number of seconds"


ON_OFF = Notation({True: "1", False: "0"})
CHECKED = Notation({True: "checked", False: "cleared"})
ENABLED = Notation({True: "enabled", False: "disabled"})
SHOWN = Notation({True: "shown", False: "hidden"})
SECONDS = Notation({})
NEW_KEY = "security-newkeyonrestart"


def _words(*words: str) -> Notation:
    return Notation({word: word for word in words})


LAUNCH: Mapping[str, tuple[str, Notation]] = {
    "launch-trycachedpassword": ("password_cache_usage", ON_OFF),
    "launch-expiredpassword": ("expired_password", _words("dialog", "manual", "none")),
    "launch-allowsmartcard": ("allow_smart_card", ON_OFF),
    "launch-showauthdialog": ("show_dialog", _words("user", "system", "none")),
    "launch-savepassword-initial": ("save_password_checked", CHECKED),
    "launch-savepassword-state": ("save_password_enabled", ENABLED),
    "launch-alwayssmartcard-initial": ("always_smart_card_checked", CHECKED),
    "launch-alwayssmartcard-state": ("always_smart_card_enabled", ENABLED),
    "launch-savettapassword": ("save_login_password", ON_OFF),
    "launch-showdialogafter": ("dialog_delay_seconds", SECONDS),
    "launch-details-initial": ("details_shown", SHOWN),
    "launch-details-showonerror": ("details_shown_on_error", ON_OFF),
    "launch-details-state": ("details_enabled", ENABLED),
    NEW_KEY: ("new_key_on_restart", ON_OFF),
}
"""Attributes that the vault owns, by name: the field of its launch settings, and the form."""
MEMBERSHIP: Mapping[str, Notation] = {"tarantella-config-security-peerssl-enabled": ON_OFF}
"""Attributes that the membership service owns."""
ELSEWHERE: Mapping[str, str] = {
    "tarantella-config-host-acceptnewconnections": "it belongs to the remote-desktop servers themselves",
}
"""Documented attributes that nothing behind this command owns, and where they are."""
NAMES = tuple(sorted((*LAUNCH, *MEMBERSHIP)))


def check_names(names: Sequence[str]) -> None:
    """Refuse attributes that are not known here, by name and with their owner. Raises `CommandFailed`."""
    for name in names:
        if name in ELSEWHERE:
            raise CommandFailed(f"{name}: {ELSEWHERE[name]}")
        if name not in LAUNCH and name not in MEMBERSHIP:
            raise CommandFailed(f"unknown attribute {name}")
