"""Launch settings of arrays and servers: read and set them, each inside the caller's transaction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from keyreeve.errors import FieldInvalid, RestartsUnknown, Violation
from keyreeve_credentials.launch_settings.layers import (
    DEFAULTS,
    MOST_DELAY_SECONDS,
    OF_ARRAYS,
    SETTING_NAMES,
    LaunchSettings,
    SettingLayer,
    Value,
    layer_of,
    setting_text,
    settings_in_force,
)
from keyreeve_credentials.launch_settings.ports import ARRAY, LaunchSettingTransaction

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\Z")


@dataclass(frozen=True, slots=True)
class SettingsView:
    """The settings of an array or a server, as they were set and as they are in force."""

    array: SettingLayer
    server: SettingLayer
    effective: LaunchSettings


_UNSET = SettingLayer()


def parse_server(text: str, field: str = "server") -> str:
    """Check the peer DNS name of a server; empty: the array. Raises `FieldInvalid`."""
    if text and not _HOST.match(text):
        raise _invalid(field, "a DNS name in lower case is required")
    return text


def read_settings(
    tx: LaunchSettingTransaction, array_id: str, server: str = ARRAY, defaults: LaunchSettings = DEFAULTS
) -> SettingsView:
    """Read the settings of an array or of one of its servers."""
    stored = tx.launch_settings.read(array_id, server)
    if not any(stored):
        return SettingsView(_UNSET, _UNSET, defaults)
    array, own = map(layer_of, stored)
    return SettingsView(array, own, settings_in_force(array, own, defaults))


def set_settings(
    tx: LaunchSettingTransaction,
    array_id: str,
    server: str,
    changes: Mapping[str, Value | None],
    defaults: LaunchSettings = DEFAULTS,
    *,
    restarts_known: bool,
) -> SettingsView:
    """Set settings, or remove those that are None. Raises `FieldInvalid`, `RestartsUnknown`."""
    for name, value in changes.items():
        if name not in SETTING_NAMES:
            raise _invalid("update_mask", f"{name!r} is not a launch setting: {', '.join(SETTING_NAMES)}")
        if name == "dialog_delay_seconds" and value is not None and not 0 <= int(value) <= MOST_DELAY_SECONDS:
            raise _invalid(f"settings.{name}", f"0 to {MOST_DELAY_SECONDS} are allowed")
        if name in OF_ARRAYS and server != ARRAY:
            raise _invalid("server", f"{name} is a setting of the whole array")
    if changes.get("new_key_on_restart") and not restarts_known:
        raise RestartsUnknown(
            "new_key_on_restart needs `vault.membership_address` in the settings of the credentials service: the membership "
            "service knows of restarts"
        )
    for name, value in sorted(changes.items()):
        if value is None:
            tx.launch_settings.remove(array_id, server, name)
        else:
            tx.launch_settings.put(array_id, server, name, setting_text(value))
    return read_settings(tx, array_id, server, defaults)


def _invalid(field: str, why: str) -> FieldInvalid:
    return FieldInvalid(f"{field}: {why}", violations=[Violation(field, why)])
