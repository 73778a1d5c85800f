"""What would change a decision: single changes whose decision is another one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from keyreeve_credentials.launch_settings.layers import DialogDisplay
from keyreeve_credentials.objects.ports import PasswordCacheUsage, UserProfile
from keyreeve_credentials.resolution.dialog import Dialog
from keyreeve_credentials.resolution.launch import (
    DOMAIN_PREFIX,
    LOGIN,
    CachedEntry,
    EntryKind,
    Launch,
    by_resource,
    cached_domain,
    domain_resource,
)
from keyreeve_credentials.resolution.rules import Credential, LaunchFailure, Result, decide

MAX_DOMAINS = 3
"""How many cached domains are tried as values of an attribute."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change and the decision that it leads to."""

    text: str
    result: str


def what_would_change(launch: Launch) -> tuple[Change, ...]:
    """List the single changes that lead to another decision."""
    present = decide(launch).result
    found = []
    for text, changed in _changes(launch):
        result = decide(changed).result
        if described(result) != described(present):
            found.append(Change(text, described(result)))
    return tuple(found)


def described(result: Result) -> str:
    """Describe a result in words, without anything secret."""
    match result:
        case Credential(entry, domain):
            used = "a smart card" if entry.kind is EntryKind.SMART_CARD else entry_text(entry)
            return f"{used}, domain {domain}" if domain else used
        case LaunchFailure(reason):
            return f"a launch failure: {reason.value}"
        case Dialog():
            return "a dialog"


def _changes(launch: Launch) -> Iterator[tuple[str, Launch]]:
    settings, server, application = launch.settings, launch.server, launch.application
    yield (
        "launch without Shift" if launch.shift_click else "launch with Shift",
        replace(launch, shift_click=not launch.shift_click),
    )
    for display in DialogDisplay:
        changed = replace(settings, show_dialog=display)
        yield f"set the launch setting show_dialog to {display.value}", replace(launch, settings=changed)
    for resource, entry in launch.entries.items():
        kept = {name: other for name, other in launch.entries.items() if name != resource}
        yield f"delete {entry_text(entry)}", replace(launch, entries=kept)
    yield from _password_cache_usage(launch)
    if not application.is_windows:
        yield f"save an entry for {server.name}", _with(launch, CachedEntry(server.name, EntryKind.PASSWORD))
        return
    allowed = replace(settings, allow_smart_card=not settings.allow_smart_card)
    yield (
        f"set the launch setting allow_smart_card to {str(allowed.allow_smart_card).lower()}",
        replace(launch, settings=allowed),
    )
    yield from _domains(launch)


def _password_cache_usage(launch: Launch) -> Iterator[tuple[str, Launch]]:
    usage = PasswordCacheUsage.NEVER if launch.tries_login_password else PasswordCacheUsage.TRY
    server = replace(launch.server, password_cache_usage=usage)
    yield f"set password_cache_usage of {server.name} to {usage.value}", replace(launch, server=server)
    if launch.login is None and not launch.third_party and not launch.application.is_windows:
        yield "save the login password", _with(launch, CachedEntry(LOGIN, EntryKind.LOGIN_PASSWORD))


def _domains(launch: Launch) -> Iterator[tuple[str, Launch]]:
    server, application, profile = launch.server, launch.application, launch.profile or UserProfile(launch.owner)
    set_here = [domain for domain in (server.domain, application.domain, profile.domain) if domain]
    for domain in dict.fromkeys(set_here):
        yield (
            f"save an entry for the domain {domain}",
            _with(launch, CachedEntry(domain_resource(domain), EntryKind.PASSWORD)),
        )
    for domain in ("", *_cached_domains(launch)):
        verb = f"to {domain}" if domain else "to nothing"
        if domain != server.domain:
            yield f"set domain of {server.name} {verb}", replace(launch, server=replace(server, domain=domain))
        if domain != application.domain:
            changed = replace(application, domain=domain)
            yield f"set domain of {application.name} {verb}", replace(launch, application=changed)
        if domain != profile.domain:
            yield f"set domain of {profile.name} {verb}", replace(launch, profile=replace(profile, domain=domain))


def _cached_domains(launch: Launch) -> list[str]:
    names = [name.removeprefix(DOMAIN_PREFIX) for name in _resources(launch) if name.startswith(DOMAIN_PREFIX)]
    return list(dict.fromkeys([domain for domain in (cached_domain(launch), *sorted(names)) if domain]))[:MAX_DOMAINS]


def _resources(launch: Launch) -> list[str]:
    return [entry.resource for entry in launch.entries.values()]


def _with(launch: Launch, entry: CachedEntry) -> Launch:
    return replace(launch, entries=dict(launch.entries) | by_resource([entry]))


def entry_text(entry: CachedEntry) -> str:
    """Describe an entry."""
    if entry.kind is EntryKind.LOGIN_PASSWORD:
        return "the login password"
    if entry.kind is EntryKind.SMART_CARD:
        return f"the decision to use a smart card for {entry.resource}"
    return f"the entry for {entry.resource}"
