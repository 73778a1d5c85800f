"""What follows from an outcome that the launcher reports."""

from dataclasses import dataclass
from enum import StrEnum

from keyreeve_credentials.launch_settings.layers import ExpiredPasswordAction
from keyreeve_credentials.resolution.dialog import Dialog
from keyreeve_credentials.resolution.launch import EntryKind, Launch
from keyreeve_credentials.resolution.rules import FailureReason, LaunchFailure, password_problem


class Outcome(StrEnum):
    """What the launcher learned from the application server."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EXPIRED = "expired"
    NETWORK_LEVEL_AUTHENTICATION_FAILED = "network-level authentication failed"


class Simple(StrEnum):
    """Reactions without further contents."""

    CONTINUE = "continue"
    TERMINAL = "terminal"
    """Show a terminal window in which the user changes the password."""
    RETRY_WITH_SHIFT = "retry with shift"
    """Warn the user, who retries the launch with Shift."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What the launcher does next, and whether the entry stays in the cache."""

    next: Simple | Dialog | LaunchFailure
    discards: bool
    """The entry that was used is deleted."""
    reason: str


def reaction_to(launch: Launch, outcome: Outcome, used: EntryKind | None) -> Reaction:
    """Decide what follows from an outcome; `used` is None when the user typed the credential.

    Raises `ValueError` for an outcome that the launch cannot have.
    """
    if outcome is Outcome.NETWORK_LEVEL_AUTHENTICATION_FAILED:
        return _network_level_authentication_failed(launch, used)
    if launch.application.is_windows:
        return Reaction(Simple.CONTINUE, False, "Windows reports no outcome of an authentication: the entry stays")
    if outcome is Outcome.ACCEPTED:
        return Reaction(Simple.CONTINUE, False, "the application server accepted the credential")
    if outcome is Outcome.EXPIRED:
        return _expired(launch)
    after = password_problem(launch, FailureReason.CREDENTIAL_REFUSED, "the application server refused the password")
    # The login password is right for the array, whatever one application server says.
    return Reaction(after, used is not EntryKind.LOGIN_PASSWORD, "the application server refused the credential")


def _network_level_authentication_failed(launch: Launch, used: EntryKind | None) -> Reaction:
    if not launch.application.is_windows or not launch.application.enhanced_network_security:
        raise ValueError("only Windows applications with enhanced network security use network-level authentication")
    reason = "network-level authentication failed: the entry stays, since it may be right without it"
    if used is EntryKind.PASSWORD or used is EntryKind.LOGIN_PASSWORD:
        return Reaction(Simple.RETRY_WITH_SHIFT, False, reason)
    after = password_problem(launch, FailureReason.CREDENTIAL_REFUSED, "network-level authentication failed")
    return Reaction(after, False, reason)


def _expired(launch: Launch) -> Reaction:
    reason = "the password has expired on the application server"
    action = launch.settings.expired_password
    if action is ExpiredPasswordAction.MANUAL:
        return Reaction(Simple.TERMINAL, False, reason)
    if action is ExpiredPasswordAction.NONE:
        return Reaction(LaunchFailure(FailureReason.PASSWORD_EXPIRED), False, reason)
    return Reaction(password_problem(launch, FailureReason.PASSWORD_EXPIRED, reason), False, reason)
