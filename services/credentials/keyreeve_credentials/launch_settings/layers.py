"""Launch settings: those of the array, and those of one server over them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any


class DialogDisplay(StrEnum):
    """When the authentication dialog may be shown."""

    USER = "user"
    """On a password problem, and when the user forces it with Shift."""
    SYSTEM = "system"
    """On a password problem only."""
    NONE = "none"
    """Never: a password problem fails the launch."""


class ExpiredPasswordAction(StrEnum):
    """What follows when a password has expired on the application server."""

    DIALOG = "dialog"
    MANUAL = "manual"
    """A terminal window in which the user changes the password."""
    NONE = "none"
    """The launch fails."""


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """The launch settings in force."""

    password_cache_usage: bool = True
    """Offer the login password to application servers."""
    expired_password: ExpiredPasswordAction = ExpiredPasswordAction.DIALOG
    allow_smart_card: bool = True
    show_dialog: DialogDisplay = DialogDisplay.USER
    save_password_checked: bool = True
    """Initial state of the box Save Password."""
    save_password_enabled: bool = True
    """Whether users may change the box; otherwise its initial state decides."""
    always_smart_card_checked: bool = False
    always_smart_card_enabled: bool = True
    save_login_password: bool = True
    """Cache the user name and password of a login to the array."""
    dialog_delay_seconds: int = 2
    """How long a launch takes before its progress is displayed."""
    details_shown: bool = False
    """Whether the details of a launch are displayed from its beginning."""
    details_shown_on_error: bool = True
    details_enabled: bool = True
    """Whether users may open and close the details."""
    new_key_on_restart: bool = False
    """Give the array a new key when the agent of one of its members has started again."""


DEFAULTS = LaunchSettings()
OF_ARRAYS = frozenset({"new_key_on_restart"})
"""Settings that no server has of its own."""
SETTING_NAMES = tuple(field.name for field in fields(LaunchSettings))
MOST_DELAY_SECONDS = 3600
Value = bool | int | DialogDisplay | ExpiredPasswordAction


def setting_text(value: Value) -> str:
    """Return a setting's value as text, as it is stored."""
    return str(int(value)) if isinstance(value, int) else value.value


def setting_value(name: str, text: str) -> Value:
    """Return a setting's value from its text."""
    if name == "show_dialog":
        return DialogDisplay(text)
    if name == "expired_password":
        return ExpiredPasswordAction(text)
    return int(text) if name == "dialog_delay_seconds" else text == "1"


@dataclass(frozen=True, slots=True)
class SettingLayer:
    """Some of the settings; None leaves a setting to the layer below."""

    password_cache_usage: bool | None = None
    expired_password: ExpiredPasswordAction | None = None
    allow_smart_card: bool | None = None
    show_dialog: DialogDisplay | None = None
    save_password_checked: bool | None = None
    save_password_enabled: bool | None = None
    always_smart_card_checked: bool | None = None
    always_smart_card_enabled: bool | None = None
    save_login_password: bool | None = None
    dialog_delay_seconds: int | None = None
    details_shown: bool | None = None
    details_shown_on_error: bool | None = None
    details_enabled: bool | None = None
    new_key_on_restart: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The settings of this layer by name."""
        values = {name: getattr(self, name) for name in SETTING_NAMES}
        return {name: value for name, value in values.items() if value is not None}


def layer_of(stored: Mapping[str, str]) -> SettingLayer:
    """Make a layer of stored texts by the settings' names."""
    return SettingLayer(**{name: setting_value(name, text) for name, text in stored.items()})  # type: ignore[arg-type]


def settings_in_force(array: SettingLayer, server: SettingLayer, defaults: LaunchSettings = DEFAULTS) -> LaunchSettings:
    """Lay a server's settings over those of its array, and those over the defaults."""
    return replace(defaults, **(array.given | server.given))


def origin_of(name: str, array: SettingLayer, server: SettingLayer) -> str:
    """Return the layer that a setting comes from: `server`, `array` or `default`."""
    if name in server.given:
        return "server"
    return "array" if name in array.given else "default"
