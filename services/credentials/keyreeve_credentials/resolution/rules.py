"""The rules of resolution: each looks at one fact of a launch, and decides or leaves it to the next.

`RULES` holds them in order, for Windows applications and for others; the table in docs/resolution.md is generated from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from keyreeve_credentials.launch_settings.layers import DialogDisplay
from keyreeve_credentials.objects.ports import PasswordCacheUsage, UserProfile
from keyreeve_credentials.resolution.dialog import Dialog, dialog_for
from keyreeve_credentials.resolution.launch import CachedEntry, EntryKind, Launch, domain_resource

LAUNCH = "launch"
SETTINGS = "launch settings"
"""What steps name instead of an object."""


class Finding(StrEnum):
    """What a rule found."""

    UNSET = "unset"
    """The attribute that it reads has no value."""
    NO_ENTRY = "no entry"
    OFF = "off"
    """A setting or attribute excludes it."""
    DECIDED = "decided"


class FailureReason(StrEnum):
    """Why a launch fails."""

    NO_CREDENTIAL = "no credential"
    CREDENTIAL_REFUSED = "credential refused"
    PASSWORD_EXPIRED = "password expired"  # noqa: S105 - a reason, not a password


@dataclass(frozen=True, slots=True)
class Credential:
    """The launch uses a cached entry."""

    entry: CachedEntry
    domain: str = ""
    """The Windows domain to log in to, for Windows applications."""


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """The launch fails."""

    reason: FailureReason


Result = Credential | Dialog | LaunchFailure


@dataclass(frozen=True, slots=True)
class Step:
    """What one rule saw."""

    rule: str
    object: str
    """Name of the object whose attribute was read, or `launch settings`."""
    attribute: str
    value: str
    """Of the attribute; never a secret."""
    finding: Finding = Finding.UNSET
    result: Result | None = None

    def left(self, finding: Finding) -> "Step":
        """Leave the decision to the next rule."""
        return replace(self, finding=finding)

    def decides(self, result: Result) -> "Step":
        """Decide."""
        return replace(self, finding=Finding.DECIDED, result=result)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    name: str
    reads: str
    decides: str
    """When it decides, and what."""
    otherwise: str
    """When it leaves the decision to the next rule."""
    look: Callable[[Launch], Step]


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a launch, with the steps that led to it."""

    result: Result
    steps: tuple[Step, ...]

    @property
    def decisive(self) -> Step:
        """The step that decided."""
        return self.steps[-1]


def decide(launch: Launch) -> Decision:
    """Decide which credential a launch uses."""
    steps: list[Step] = []
    for rule in RULES[launch.application.is_windows]:
        steps.append(rule.look(launch))
        if (result := steps[-1].result) is not None:
            return Decision(result, tuple(steps))
    raise AssertionError("the last rule always decides")


def password_problem(launch: Launch, reason: FailureReason, problem: str) -> Dialog | LaunchFailure:
    """Return what a missing or refused password leads to."""
    if launch.settings.show_dialog is DialogDisplay.NONE:
        return LaunchFailure(reason)
    return dialog_for(launch, problem)


def _shift_click(launch: Launch) -> Step:
    if not launch.shift_click:
        return Step("shift-click", LAUNCH, "shift_click", "false", Finding.OFF)
    display = launch.settings.show_dialog
    step = Step("shift-click", SETTINGS, "show_dialog", display.value)
    if display is not DialogDisplay.USER:
        return step.left(Finding.OFF)
    return step.decides(dialog_for(launch, "the user forced the dialog"))


def _smart_card(launch: Launch) -> Step:
    entry = launch.entry_for(launch.server.name)
    step = Step("smart card", launch.server.name, "always use smart card", "")
    if entry is None or entry.kind is not EntryKind.SMART_CARD:
        return step.left(Finding.NO_ENTRY)
    if not launch.settings.allow_smart_card:
        return Step("smart card", SETTINGS, "allow_smart_card", "false", Finding.OFF)
    return step.decides(Credential(entry))


def _server_entry(launch: Launch) -> Step:
    entry = launch.entry_for(launch.server.name)
    step = Step("application server", launch.server.name, "name", launch.server.name)
    if entry is None or entry.kind is not EntryKind.PASSWORD:
        return step.left(Finding.NO_ENTRY)
    return step.decides(Credential(entry))


def _login_password(launch: Launch) -> Step:
    own = launch.server.password_cache_usage is not PasswordCacheUsage.DEFAULT
    value = "try" if launch.tries_login_password else "never"
    step = Step("login password", launch.server.name if own else SETTINGS, "password_cache_usage", value)
    if not launch.tries_login_password:
        return step.left(Finding.OFF)
    if launch.login is None:
        return step.left(Finding.NO_ENTRY)
    return step.decides(Credential(launch.login))


def _domain_of_server(launch: Launch) -> Step:
    return _domain(launch, Step("domain of the application server", launch.server.name, "domain", launch.server.domain))


def _domain_of_application(launch: Launch) -> Step:
    application = launch.application
    return _domain(launch, Step("domain of the application", application.name, "domain", application.domain))


def _domain_of_profile(launch: Launch) -> Step:
    profile = launch.profile or UserProfile("")
    return _domain(launch, Step("domain of the user profile", profile.name, "domain", profile.domain))


def _domain(launch: Launch, step: Step) -> Step:
    if not step.value:
        return step.left(Finding.UNSET)
    entry = entry_of_domain(launch, step.value)
    return step.left(Finding.NO_ENTRY) if entry is None else step.decides(Credential(entry, step.value))


def entry_of_domain(launch: Launch, domain: str) -> CachedEntry | None:
    """Return the user's entry for a Windows domain: one of its own, or the login password cached with that domain."""
    entry = launch.entry_for(domain_resource(domain))
    if entry is not None and entry.kind is EntryKind.PASSWORD:
        return entry
    login = launch.login if launch.tries_login_password else None
    return login if login is not None and login.domain.casefold() == domain.casefold() else None


def _display(launch: Launch) -> Step:
    step = Step("dialog display", SETTINGS, "show_dialog", launch.settings.show_dialog.value)
    problem = "no password is cached for this launch"
    return step.decides(password_problem(launch, FailureReason.NO_CREDENTIAL, problem))


SHIFT_CLICK = Rule(
    "shift-click",
    "launch setting `show_dialog`",
    "the user held Shift and the setting is `user`: dialog",
    "no Shift, or the setting is `system` or `none`",
    _shift_click,
)
SMART_CARD = Rule(
    "smart card",
    "the user's entry for the application server; launch setting `allow_smart_card`",
    "the entry is the decision to always use a smart card, and the setting is on: smart card",
    "no such decision, or the setting is off",
    _smart_card,
)
SERVER_ENTRY = Rule(
    "application server",
    "the user's entry for the application server",
    "the entry holds a password: that entry",
    "no entry",
    _server_entry,
)
LOGIN_PASSWORD = Rule(
    "login password",
    "`password_cache_usage` of the application server, else of the launch settings; the user's login password",
    "it may be tried and is cached: the login password",
    "it may not be tried, or is not cached; never cached after an authentication by a third party",
    _login_password,
)
DOMAIN_OF_SERVER = Rule(
    "domain of the application server",
    "`domain` of the application server; the user's entry for that domain",
    "the domain is set and has an entry: that entry",
    "unset, or no entry",
    _domain_of_server,
)
DOMAIN_OF_APPLICATION = Rule(
    "domain of the application",
    "`domain` of the application; the user's entry for that domain",
    "the domain is set and has an entry: that entry",
    "unset, or no entry",
    _domain_of_application,
)
DOMAIN_OF_PROFILE = Rule(
    "domain of the user profile",
    "`domain` of the user profile; the user's entry for that domain",
    "the domain is set and has an entry: that entry",
    "unset, or no entry",
    _domain_of_profile,
)
DIALOG_DISPLAY = Rule(
    "dialog display",
    "launch setting `show_dialog`",
    "`user` or `system`: dialog; `none`: the launch fails",
    "always decides",
    _display,
)
RULES: dict[bool, tuple[Rule, ...]] = {
    True: (SHIFT_CLICK, SMART_CARD, DOMAIN_OF_SERVER, DOMAIN_OF_APPLICATION, DOMAIN_OF_PROFILE, DIALOG_DISPLAY),
    False: (SHIFT_CLICK, SERVER_ENTRY, LOGIN_PASSWORD, DIALOG_DISPLAY),
}
"""The rules in order: of Windows applications under True, of others under False."""
