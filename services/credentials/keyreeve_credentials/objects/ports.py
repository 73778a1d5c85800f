"""Objects whose attributes resolution reads."""

from dataclasses import dataclass
from enum import StrEnum


class ObjectKind(StrEnum):
    """Kind of an object."""

    APPLICATION_SERVER = "application server"
    DYNAMIC_APPLICATION_SERVER = "dynamic application server"
    APPLICATION = "application"
    USER_PROFILE = "user profile"


class ApplicationKind(StrEnum):
    """What an application runs on."""

    WINDOWS = "windows"
    X = "x"
    CHARACTER = "character"


class PasswordCacheUsage(StrEnum):
    """Whether a server is offered the login password; `default` is the array's setting."""

    DEFAULT = "default"
    TRY = "try"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ApplicationServer:
    """A server that applications run on; a dynamic one is chosen among several at launch."""

    name: str
    dynamic: bool = False
    domain: str = ""
    """Attribute Domain Name; empty: unset."""
    password_cache_usage: PasswordCacheUsage = PasswordCacheUsage.DEFAULT

    @property
    def kind(self) -> ObjectKind:
        """Kind of the object."""
        return ObjectKind.DYNAMIC_APPLICATION_SERVER if self.dynamic else ObjectKind.APPLICATION_SERVER


@dataclass(frozen=True, slots=True)
class Application:
    """An application that users launch."""

    name: str
    kind: ApplicationKind
    domain: str = ""
    """Attribute Domain Name, of Windows applications; empty: unset."""
    enhanced_network_security: bool = True
    """Network-level authentication, of Windows applications."""

    @property
    def is_windows(self) -> bool:
        """Whether the remote desktop host authenticates the user, and reports nothing."""
        return self.kind is ApplicationKind.WINDOWS


@dataclass(frozen=True, slots=True)
class UserProfile:
    """The profile of a user."""

    name: str
    domain: str = ""
    """Attribute Domain Name; empty: unset."""
