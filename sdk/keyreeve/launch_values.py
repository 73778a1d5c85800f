"""Values of launches: objects, launch settings, and what resolution answers."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from keyreeve.plaintext import Plaintext


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
    new_key_on_restart: bool | None = None
    """Give the array a new key when the agent of one of its members has started again; of an array only."""


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


@dataclass(frozen=True, slots=True)
class Launch:
    """A user launches an application on an application server; names are TFN names."""

    array: str
    owner: str
    """The user, or `anonymous`."""
    application: str
    application_server: str
    user_profile: str = ""
    """Empty: the owner's, if there is one of that name."""
    server: str = ""
    """Whose launch settings apply; empty: the caller's if it is a member, else the array's."""
    shift_click: bool = False
    third_party_authenticated: bool = False


class CredentialKind(StrEnum):
    """What a credential is."""

    PASSWORD = "password"  # noqa: S105 - a kind, not a password
    LOGIN_PASSWORD = "login-password"  # noqa: S105 - a kind, not a password
    SMART_CARD = "smart-card"


@dataclass(frozen=True, slots=True)
class Credential:
    """What a launch logs in with; the secret shows as `***` and is read with `secret.reveal()`."""

    entry: str
    """`arrays/{array}/entries/{entry}`."""
    entry_version: int
    kind: CredentialKind
    user_name: str
    """Exactly as it was typed."""
    domain: str
    """The Windows domain to log in to, for Windows applications."""
    resource: str
    """The resource of the entry; empty: a login password."""
    secret: Plaintext
    """Empty for a smart card, and in explanations."""


@dataclass(frozen=True, slots=True)
class CheckBox:
    """A check box of a dialog."""

    checked: bool
    """Its state at first."""
    locked: bool
    """Users cannot change it: the first state decides."""


@dataclass(frozen=True, slots=True)
class AuthenticationDialog:
    """A dialog to show, with fields for a user name and a password."""

    problem: str
    has_domain: bool
    """There is a field NT Domain."""
    domain: str
    """What NT Domain contains at first."""
    save_password: CheckBox
    always_smart_card: CheckBox | None
    """None where smart cards cannot be used."""


class LaunchFailure(StrEnum):
    """Why a launch fails."""

    NO_CREDENTIAL = "no-credential"
    CREDENTIAL_REFUSED = "credential-refused"
    PASSWORD_EXPIRED = "password-expired"  # noqa: S105 - a reason, not a password


Resolved = Credential | AuthenticationDialog | LaunchFailure
"""What a launch logs in with, a dialog to show, or why the launch fails."""


class RuleFinding(StrEnum):
    """What a rule of resolution found."""

    UNSET = "unset"
    NO_ENTRY = "no-entry"
    OFF = "off"
    DECIDED = "decided"


@dataclass(frozen=True, slots=True)
class ResolutionStep:
    """What one rule saw."""

    rule: str
    object_name: str
    """Whose attribute was read, or `launch settings`."""
    attribute: str
    value: str
    finding: RuleFinding


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, the rules that were tried, and single changes that lead to another decision."""

    result: Resolved
    steps: tuple[ResolutionStep, ...]
    changes: tuple[tuple[str, str], ...]
    """Each change, and the decision that it leads to."""


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """What a user's answer changed."""

    entry: str
    """Empty: nothing was saved."""
    entry_version: int
    reason: str
    deleted_entry: str


class LaunchOutcome(StrEnum):
    """What an application server answered."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    NETWORK_LEVEL_AUTHENTICATION_FAILED = "network-level-authentication-failed"


class LaunchStep(StrEnum):
    """What the launcher does next, beside showing a dialog or failing."""

    CONTINUE = "continue"
    TERMINAL = "terminal"
    RETRY_WITH_SHIFT = "retry-with-shift"


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from an outcome."""

    next: LaunchStep | AuthenticationDialog | LaunchFailure
    discarded: bool
    """The entry has been deleted."""
    reason: str
