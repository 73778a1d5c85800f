"""Translation between messages about launches and the values of the SDK."""

from datetime import UTC
from typing import Any, Final

from keyreeve import launch_values as values
from keyreeve import wire
from keyreeve.credentials.v1 import launch_setting_service_pb2 as setting_pb
from keyreeve.credentials.v1 import object_service_pb2 as object_pb

OBJECT_KINDS: Final = {
    values.ObjectKind.APPLICATION_SERVER: object_pb.OBJECT_KIND_APPLICATION_SERVER,
    values.ObjectKind.DYNAMIC_APPLICATION_SERVER: object_pb.OBJECT_KIND_DYNAMIC_APPLICATION_SERVER,
    values.ObjectKind.APPLICATION: object_pb.OBJECT_KIND_APPLICATION,
    values.ObjectKind.USER_PROFILE: object_pb.OBJECT_KIND_USER_PROFILE,
}
APPLICATION_KINDS: Final = {
    values.ApplicationKind.WINDOWS: object_pb.APPLICATION_KIND_WINDOWS,
    values.ApplicationKind.X: object_pb.APPLICATION_KIND_X,
    values.ApplicationKind.CHARACTER: object_pb.APPLICATION_KIND_CHARACTER,
}
USAGES: Final = {
    values.PasswordCacheUsage.DEFAULT: object_pb.PASSWORD_CACHE_USAGE_UNSPECIFIED,
    values.PasswordCacheUsage.TRY: object_pb.PASSWORD_CACHE_USAGE_TRY,
    values.PasswordCacheUsage.NEVER: object_pb.PASSWORD_CACHE_USAGE_NEVER,
}
DISPLAYS: Final = {
    values.DialogDisplay.USER: setting_pb.DIALOG_DISPLAY_USER,
    values.DialogDisplay.SYSTEM: setting_pb.DIALOG_DISPLAY_SYSTEM,
    values.DialogDisplay.NONE: setting_pb.DIALOG_DISPLAY_NONE,
}
ACTIONS: Final = {
    values.ExpiredPasswordAction.DIALOG: setting_pb.EXPIRED_PASSWORD_ACTION_DIALOG,
    values.ExpiredPasswordAction.MANUAL: setting_pb.EXPIRED_PASSWORD_ACTION_MANUAL,
    values.ExpiredPasswordAction.NONE: setting_pb.EXPIRED_PASSWORD_ACTION_NONE,
}
SETTINGS: Final = tuple(field.name for field in setting_pb.LaunchSettings.DESCRIPTOR.fields)


def from_object(message: object_pb.Object) -> values.LaunchObject:
    """Translate an object."""
    return values.LaunchObject(
        array=message.parent,
        name=message.object_name,
        kind=wire.from_number(OBJECT_KINDS, message.kind),
        domain=message.domain,
        password_cache_usage=wire.from_number(USAGES, message.password_cache_usage),
        application_kind=(
            wire.from_number(APPLICATION_KINDS, message.application_kind) if message.application_kind else None
        ),
        enhanced_network_security=message.enhanced_network_security,
        version=message.version,
        created_at=message.create_time.ToDatetime(UTC),
        updated_at=message.update_time.ToDatetime(UTC),
    )


def to_settings(settings: values.LaunchSettings) -> setting_pb.LaunchSettings:
    """Translate settings; those that are None are left out."""
    found: dict[str, Any] = {name: getattr(settings, name) for name in SETTINGS}
    if settings.show_dialog is not None:
        found["show_dialog"] = wire.to_number(DISPLAYS, settings.show_dialog, "show_dialog")
    if settings.expired_password is not None:
        found["expired_password"] = wire.to_number(ACTIONS, settings.expired_password, "expired_password")
    return setting_pb.LaunchSettings(**{name: value for name, value in found.items() if value is not None})


def from_settings(message: setting_pb.LaunchSettings) -> values.LaunchSettings:
    """Translate settings."""
    found: dict[str, Any] = {
        name: getattr(message, name)
        for name in SETTINGS
        if name not in {"show_dialog", "expired_password"} and message.HasField(name)  # type: ignore[arg-type]
    }
    if message.show_dialog:
        found["show_dialog"] = wire.from_number(DISPLAYS, message.show_dialog)
    if message.expired_password:
        found["expired_password"] = wire.from_number(ACTIONS, message.expired_password)
    return values.LaunchSettings(**found)


def from_view(message: setting_pb.LaunchSettingsView) -> values.LaunchSettingsView:
    """Translate the settings of an array or a server."""
    return values.LaunchSettingsView(
        array=message.parent,
        server=message.server,
        own=from_settings(message.own),
        effective=from_settings(message.effective),
        from_array=frozenset(message.from_array),
        from_server=frozenset(message.from_server),
    )
