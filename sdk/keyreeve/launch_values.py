"""Values of launches: objects, launch settings, and what resolution answers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ObjectKind(StrEnum):
    """Kind of an object."""

    APPLICATION_SERVER = "application-server"
    DYNAMIC_APPLICATION_SERVER = "dynamic-application-server"
    APPLICATION = "application"
    USER_PROFILE = "user-profile"


class ApplicationKind(StrEnum):
    """What an application runs on."""

    WINDOWS = "windows"
    X = "x"
    CHARACTER = "character"


class PasswordCacheUsage(StrEnum):
    """Whether a login password may be tried on an application server."""

    DEFAULT = "default"
    TRY = "try"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class LaunchObject:
    """An object of an array, with the attributes that resolution reads."""

    array: str
    """`arrays/{array}`."""
    name: str
    """TFN name."""
    kind: ObjectKind
    domain: str
    password_cache_usage: PasswordCacheUsage
    application_kind: ApplicationKind | None
    enhanced_network_security: bool
    version: int
    created_at: datetime
    updated_at: datetime


class DialogDisplay(StrEnum):
    """When the authentication dialog may be shown."""

    USER = "user"
    SYSTEM = "system"
    NONE = "none"


class ExpiredPasswordAction(StrEnum):
    """What follows when a password has expired on the application server."""

    DIALOG = "dialog"
    MANUAL = "manual"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """Launch settings; None is not set."""

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


@dataclass(frozen=True, slots=True)
class LaunchSettingsView:
    """The launch settings of an array or a server."""

    array: str
    server: str
    """Empty: the array itself."""
    own: LaunchSettings
    """What was set here."""
    effective: LaunchSettings
    """What is in force here; complete."""
    from_array: frozenset[str]
    """Names of the settings in force that come from the array."""
    from_server: frozenset[str]
    """Names of the settings in force that come from the server."""
