"""What is known of a launch when its credential is decided."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from keyreeve_credentials.launch_settings.layers import LaunchSettings
from keyreeve_credentials.objects.ports import Application, ApplicationServer, UserProfile

LOGIN = ""
"""The resource of the login password: none."""
DOMAIN_PREFIX = ".../_wns/"
"""What precedes a Windows domain in the name of a resource."""


class EntryKind(StrEnum):
    """What a cached entry says."""

    PASSWORD = "password"  # noqa: S105 - a kind, not a password
    LOGIN_PASSWORD = "login password"  # noqa: S105 - a kind, not a password
    """The password with which the user logs in to the array."""
    SMART_CARD = "smart card"
    """The decision to always use a smart card; without a secret."""


@dataclass(frozen=True, slots=True)
class CachedEntry:
    """An entry of the user in the password cache, without its secret."""

    resource: str
    """An application server, a Windows domain, or `LOGIN`."""
    kind: EntryKind
    user_name: str = ""
    domain: str = ""
    """The Windows domain of a login password, if the user profile named one."""
    used_at: int = 0
    """Seconds since 1970 of its last use or change."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A user who launches an application on an application server."""

    owner: str
    server: ApplicationServer
    application: Application
    profile: UserProfile | None = None
    settings: LaunchSettings = field(default_factory=LaunchSettings)
    entries: Mapping[str, CachedEntry] = field(default_factory=dict)
    """The user's entries by `resource_key`."""
    shift_click: bool = False
    third_party: bool = False
    """The user was authenticated by a third party: the array has not seen a password."""

    def entry_for(self, resource: str) -> CachedEntry | None:
        """Return the user's entry for a resource."""
        return self.entries.get(resource_key(resource))

    @property
    def tries_login_password(self) -> bool:
        """Whether the server may be offered the login password."""
        usage = self.server.password_cache_usage.value
        return self.settings.password_cache_usage if usage == "default" else usage == "try"

    @property
    def login(self) -> CachedEntry | None:
        """The cached login password; none for users who were authenticated by a third party."""
        return None if self.third_party else self.entry_for(LOGIN)


def resource_key(resource: str) -> str:
    """Return what compares equal for resources that differ in the case of letters alone."""
    return resource.casefold()


def by_resource(entries: Iterable[CachedEntry]) -> dict[str, CachedEntry]:
    """Arrange a user's entries for a launch."""
    return {resource_key(entry.resource): entry for entry in entries}


def domain_resource(domain: str) -> str:
    """Return the resource of a Windows domain."""
    return f"{DOMAIN_PREFIX}{domain}"


def cached_domain(launch: Launch) -> str:
    """Return the Windows domain that is cached for the user, or nothing.

    The domain of the user profile if it is among them, else the one that was used last.
    """
    times = {
        entry.resource.removeprefix(DOMAIN_PREFIX): entry.used_at
        for entry in launch.entries.values()
        if entry.resource.startswith(DOMAIN_PREFIX)
    }
    known = {domain.casefold() for domain in times}
    login, profile = launch.login, launch.profile
    if login is not None and login.domain and login.domain.casefold() not in known:
        times[login.domain] = login.used_at
        known.add(login.domain.casefold())
    if profile is not None and profile.domain.casefold() in known:
        return profile.domain
    return max(times, key=lambda domain: (times[domain], domain), default="")
