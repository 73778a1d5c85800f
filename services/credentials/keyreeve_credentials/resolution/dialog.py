"""The authentication dialog: its fields, boxes and pre-fills, and what its answer saves."""

from dataclasses import dataclass

from keyreeve_credentials.resolution.launch import EntryKind, Launch, cached_domain, domain_resource


@dataclass(frozen=True, slots=True)
class Box:
    """A check box of the dialog."""

    checked: bool
    """Its initial state."""
    locked: bool
    """Users cannot change it: the initial state decides."""

    def decided(self, answer: bool) -> bool:
        """Return its state after the user's answer."""
        return self.checked if self.locked else answer


@dataclass(frozen=True, slots=True)
class Dialog:
    """A dialog to show: fields for a user name and a password, and those here."""

    problem: str
    """Why it is shown."""
    has_domain: bool
    """Whether there is the field NT Domain."""
    domain: str
    """What NT Domain holds in advance."""
    save_password: Box
    always_smart_card: Box | None
    """Absent where smart cards cannot be used."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the user gave in the dialog, without the password."""

    user_name: str
    """Exactly as typed."""
    domain: str = ""
    save_password: bool = False
    always_smart_card: bool = False


@dataclass(frozen=True, slots=True)
class Saving:
    """What an answer changes in the password cache."""

    resource: str | None
    """Where an entry is saved; None: none is."""
    kind: EntryKind
    forgotten: str | None
    """The resource whose decision for a smart card is deleted."""
    reason: str


def dialog_for(launch: Launch, problem: str) -> Dialog:
    """Lay out the dialog of a launch."""
    windows = launch.application.is_windows
    return Dialog(
        problem,
        windows,
        domain_in_advance(launch) if windows else "",
        save_password_box(launch),
        smart_card_box(launch),
    )


def domain_in_advance(launch: Launch) -> str:
    """Return what NT Domain holds in advance: the user profile alone does not fill it."""
    return launch.server.domain or launch.application.domain or cached_domain(launch)


def save_password_box(launch: Launch) -> Box:
    """Return the box Save Password."""
    return Box(launch.settings.save_password_checked, not launch.settings.save_password_enabled)


def smart_card_box(launch: Launch) -> Box | None:
    """Return the box Always Use Smart Card, which Windows applications have while smart cards are allowed."""
    if not launch.application.is_windows or not launch.settings.allow_smart_card:
        return None
    return Box(launch.settings.always_smart_card_checked, not launch.settings.always_smart_card_enabled)


def what_to_save(launch: Launch, answer: Answer) -> Saving:
    """Decide what the answer to a dialog changes in the password cache."""
    server, box = launch.server.name, smart_card_box(launch)
    if box is not None and box.decided(answer.always_smart_card):
        return Saving(server, EntryKind.SMART_CARD, None, "a smart card is always used")
    decision = launch.entry_for(server)
    forgotten = None
    if box is not None and decision is not None and decision.kind is EntryKind.SMART_CARD:
        forgotten = server
    if not save_password_box(launch).decided(answer.save_password):
        return Saving(None, EntryKind.PASSWORD, forgotten, "the box Save Password is cleared")
    if not launch.application.is_windows:
        return Saving(server, EntryKind.PASSWORD, None, "saved for the application server")
    if not answer.domain:
        return Saving(
            None, EntryKind.PASSWORD, forgotten, "passwords for Windows are saved under a domain; none was given"
        )
    return Saving(domain_resource(answer.domain), EntryKind.PASSWORD, forgotten, "saved for the Windows domain")


@dataclass(frozen=True, slots=True)
class LoginSaving:
    """Whether the password of a login to the array is cached, and with which domain."""

    saved: bool
    domain: str
    reason: str


def what_to_save_of_login(launch_settings_allow: bool, third_party: bool, profile_domain: str) -> LoginSaving:
    """Decide whether the password of a login is cached."""
    if third_party:
        return LoginSaving(False, "", "the user was authenticated by a third party: there is no password to save")
    if not launch_settings_allow:
        return LoginSaving(False, "", "the setting save_login_password is off")
    return LoginSaving(True, profile_domain, "saved with the domain of the user profile" if profile_domain else "saved")
