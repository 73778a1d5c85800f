"""Objects whose attributes resolution reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from keyreeve_credentials.entries.names import ObjectName


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


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as it is stored. Times are seconds since 1970."""

    array_id: str
    name: ObjectName
    kind: ObjectKind
    domain: str = ""
    password_cache_usage: PasswordCacheUsage = PasswordCacheUsage.DEFAULT
    application_kind: ApplicationKind | None = None
    enhanced_network_security: bool = True
    version: int = 1
    created_at: int = 0
    updated_at: int = 0

    @property
    def is_server(self) -> bool:
        """Whether applications run on it."""
        return self.kind in {ObjectKind.APPLICATION_SERVER, ObjectKind.DYNAMIC_APPLICATION_SERVER}

    def application_server(self) -> ApplicationServer | None:
        """It as an application server, if it is one."""
        if not self.is_server:
            return None
        dynamic = self.kind is ObjectKind.DYNAMIC_APPLICATION_SERVER
        return ApplicationServer(self.name.text, dynamic, self.domain, self.password_cache_usage)

    def application(self) -> Application | None:
        """It as an application, if it is one."""
        if self.application_kind is None:
            return None
        return Application(self.name.text, self.application_kind, self.domain, self.enhanced_network_security)

    def user_profile(self) -> UserProfile | None:
        """It as a user profile, if it is one."""
        return UserProfile(self.name.text, self.domain) if self.kind is ObjectKind.USER_PROFILE else None


class ObjectRecords(Protocol):
    """The records of one transaction."""

    def add(self, made: StoredObject) -> bool:
        """Insert an object; False when the array has one of this name."""
        ...

    def find(self, array_id: str, names: Sequence[ObjectName]) -> Sequence[StoredObject]:
        """The objects of these names."""
        ...

    def replace(self, changed: StoredObject, *, version: int) -> bool:
        """Store another state; False when its version is not the one given."""
        ...

    def delete(self, array_id: str, name: ObjectName) -> bool: ...
    def page(self, array_id: str, kind: ObjectKind | None, *, after: str, limit: int) -> Sequence[StoredObject]:
        """Objects in order of their folded names, after one."""
        ...


class ObjectTransaction(Protocol):
    """A transaction that holds objects."""

    @property
    def objects(self) -> ObjectRecords: ...
