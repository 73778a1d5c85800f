"""Each sentence of the legacy manual about application authentication, as a test."""

from dataclasses import replace

import pytest

from keyreeve_credentials.launch_settings.layers import DialogDisplay, ExpiredPasswordAction, LaunchSettings
from keyreeve_credentials.objects.ports import (
    Application,
    ApplicationKind,
    ApplicationServer,
    PasswordCacheUsage,
    UserProfile,
)
from keyreeve_credentials.resolution.dialog import Answer, Box, Dialog, what_to_save, what_to_save_of_login
from keyreeve_credentials.resolution.explaining import what_would_change
from keyreeve_credentials.resolution.launch import LOGIN, CachedEntry, EntryKind, Launch, by_resource, domain_resource
from keyreeve_credentials.resolution.outcomes import Outcome, Simple, reaction_to
from keyreeve_credentials.resolution.rules import (
    RULES,
    Credential,
    FailureReason,
    Finding,
    LaunchFailure,
    decide,
)

SERVER = ApplicationServer(".../_ens/o=Indigo/cn=prague")
WORD = Application("o=Indigo/cn=Word", ApplicationKind.WINDOWS)
XTERM = Application("o=Indigo/cn=Xterm", ApplicationKind.X)
ADA = UserProfile("o=Indigo/cn=Ada")
SERVER_ENTRY = CachedEntry(SERVER.name, EntryKind.PASSWORD, "ada")
SMART_CARD = CachedEntry(SERVER.name, EntryKind.SMART_CARD)
LOGIN_PASSWORD = CachedEntry(LOGIN, EntryKind.LOGIN_PASSWORD, "ada@indigo")
BAD = LaunchFailure(FailureReason.NO_CREDENTIAL)


def domain_entry(domain: str, used_at: int = 0) -> CachedEntry:
    return CachedEntry(domain_resource(domain), EntryKind.PASSWORD, "ada", used_at=used_at)


def launch(application: Application, *entries: CachedEntry, **changes: object) -> Launch:
    return replace(Launch(ADA.name, SERVER, application, ADA, entries=by_resource(entries)), **changes)


def settings(**changes: object) -> LaunchSettings:
    return replace(LaunchSettings(), **changes)


def dialog_of(launch: Launch) -> Dialog:
    result = decide(launch).result
    assert isinstance(result, Dialog)
    return result


# "The login script sends the user name and password of the application server password cache."
def test_the_entry_for_the_application_server_is_sent() -> None:
    assert decide(launch(XTERM, SERVER_ENTRY)).result == Credential(SERVER_ENTRY)


# "If there is a problem with the user's credentials, the dialog is displayed."
@pytest.mark.parametrize("application", [XTERM, WORD])
def test_without_a_cached_password_the_dialog_is_shown(application: Application) -> None:
    assert "no password is cached" in dialog_of(launch(application)).problem


# "Caching it means that users are not prompted the next time they run an application on the same server."
def test_what_the_dialog_saves_is_used_at_the_next_launch() -> None:
    saving = what_to_save(launch(XTERM), Answer("ada", save_password=True))
    assert saving.resource == SERVER.name
    saved = CachedEntry(saving.resource, saving.kind, "ada")
    assert decide(launch(XTERM, saved)).result == Credential(saved)


# "Users can force the dialog by holding down Shift when they click the application's link."
@pytest.mark.parametrize(
    ("application", "entry"), [(XTERM, SERVER_ENTRY), (replace(WORD, domain="INDIGO"), domain_entry("INDIGO"))]
)
def test_shift_click_forces_the_dialog(application: Application, entry: CachedEntry) -> None:
    assert dialog_of(launch(application, entry, shift_click=True)).problem == "the user forced the dialog"


@pytest.mark.parametrize("display", [DialogDisplay.SYSTEM, DialogDisplay.NONE])
def test_shift_click_has_no_effect_unless_the_dialog_is_for_users(display: DialogDisplay) -> None:
    asked = launch(XTERM, SERVER_ENTRY, shift_click=True, settings=settings(show_dialog=display))
    assert decide(asked).result == Credential(SERVER_ENTRY)
    assert decide(asked).steps[0].finding is Finding.OFF


# "Whether the user's login details, if cached, are tried automatically."
def test_the_login_password_is_tried_when_no_entry_exists() -> None:
    assert decide(launch(XTERM, LOGIN_PASSWORD)).result == Credential(LOGIN_PASSWORD)
    assert decide(launch(XTERM, LOGIN_PASSWORD, SERVER_ENTRY)).result == Credential(SERVER_ENTRY)


# "Clear Password Cache Usage: login details are no longer used for application servers."
def test_the_login_password_is_not_tried_when_password_cache_usage_is_off() -> None:
    off = settings(password_cache_usage=False)
    assert isinstance(decide(launch(XTERM, LOGIN_PASSWORD, settings=off)).result, Dialog)
    with_domain = replace(LOGIN_PASSWORD, domain="INDIGO")
    assert isinstance(decide(launch(replace(WORD, domain="INDIGO"), with_domain, settings=off)).result, Dialog)


@pytest.mark.parametrize("array", [True, False])
@pytest.mark.parametrize(("usage", "tried"), [(PasswordCacheUsage.TRY, True), (PasswordCacheUsage.NEVER, False)])
def test_the_application_server_overrides_password_cache_usage(
    usage: PasswordCacheUsage, tried: bool, array: bool
) -> None:
    server = replace(SERVER, password_cache_usage=usage)
    asked = launch(XTERM, LOGIN_PASSWORD, server=server, settings=settings(password_cache_usage=array))
    assert isinstance(decide(asked).result, Credential) is tried
    assert decide(asked).steps[2].object == SERVER.name


# "The action when the user's application server password has expired."
def test_an_expired_password_leads_to_the_action_of_the_setting() -> None:
    asked = launch(XTERM, SERVER_ENTRY)
    assert isinstance(reaction_to(asked, Outcome.EXPIRED, EntryKind.PASSWORD).next, Dialog)
    manual = replace(asked, settings=settings(expired_password=ExpiredPasswordAction.MANUAL))
    assert reaction_to(manual, Outcome.EXPIRED, EntryKind.PASSWORD).next is Simple.TERMINAL
    none = replace(asked, settings=settings(expired_password=ExpiredPasswordAction.NONE))
    failed = LaunchFailure(FailureReason.PASSWORD_EXPIRED)
    assert reaction_to(none, Outcome.EXPIRED, EntryKind.PASSWORD).next == failed
    never = replace(asked, settings=settings(show_dialog=DialogDisplay.NONE))
    assert reaction_to(never, Outcome.EXPIRED, EntryKind.PASSWORD).next == failed


def test_the_action_for_expired_passwords_is_not_for_windows() -> None:
    for action in ExpiredPasswordAction:
        asked = launch(WORD, settings=settings(expired_password=action))
        assert reaction_to(asked, Outcome.EXPIRED, EntryKind.PASSWORD).next is Simple.CONTINUE


# "Whether a smart card is used to log in to Windows application servers."
def test_an_always_used_smart_card_is_used_for_windows_while_smart_cards_are_allowed() -> None:
    assert decide(launch(WORD, SMART_CARD)).result == Credential(SMART_CARD)
    refused = settings(allow_smart_card=False)
    assert isinstance(decide(launch(WORD, SMART_CARD, settings=refused)).result, Dialog)
    assert isinstance(decide(launch(XTERM, SMART_CARD)).result, Dialog)


# "When the dialog is displayed."
@pytest.mark.parametrize("application", [XTERM, WORD])
@pytest.mark.parametrize("shift_click", [False, True])
def test_a_dialog_that_is_never_shown_turns_a_missing_password_into_a_launch_failure(
    application: Application, shift_click: bool
) -> None:
    never = settings(show_dialog=DialogDisplay.NONE)
    assert decide(launch(application, settings=never, shift_click=shift_click)).result == BAD


def test_a_dialog_that_is_never_shown_turns_a_refused_password_into_a_launch_failure() -> None:
    asked = launch(XTERM, SERVER_ENTRY, settings=settings(show_dialog=DialogDisplay.NONE))
    after = reaction_to(asked, Outcome.REFUSED, EntryKind.PASSWORD)
    assert after.next == LaunchFailure(FailureReason.CREDENTIAL_REFUSED)
    assert after.discards


@pytest.mark.parametrize("display", [DialogDisplay.USER, DialogDisplay.SYSTEM])
def test_a_password_problem_shows_the_dialog(display: DialogDisplay) -> None:
    asked = launch(XTERM, SERVER_ENTRY, settings=settings(show_dialog=display))
    assert isinstance(decide(replace(asked, entries={})).result, Dialog)
    after = reaction_to(asked, Outcome.REFUSED, EntryKind.PASSWORD)
    assert isinstance(after.next, Dialog)
    assert after.discards


# "The default settings of the dialog, and whether users may change them."
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_boxes_begin_as_the_settings_say_and_can_be_locked(checked: bool, enabled: bool) -> None:
    asked = launch(
        WORD,
        settings=settings(
            save_password_checked=checked,
            save_password_enabled=enabled,
            always_smart_card_checked=checked,
            always_smart_card_enabled=enabled,
        ),
    )
    assert dialog_of(asked).save_password == dialog_of(asked).always_smart_card == Box(checked, locked=not enabled)


@pytest.mark.parametrize("checked", [True, False])
def test_the_initial_state_of_a_locked_box_decides_what_is_saved(checked: bool) -> None:
    asked = launch(XTERM, settings=settings(save_password_checked=checked, save_password_enabled=False))
    for ticked in (True, False):
        assert (what_to_save(asked, Answer("ada", save_password=ticked)).resource == SERVER.name) is checked


@pytest.mark.parametrize("checked", [True, False])
def test_the_initial_state_of_a_locked_smart_card_box_decides(checked: bool) -> None:
    asked = launch(WORD, settings=settings(always_smart_card_checked=checked, always_smart_card_enabled=False))
    for ticked in (True, False):
        kind = what_to_save(asked, Answer("ada", "INDIGO", always_smart_card=ticked)).kind
        assert (kind is EntryKind.SMART_CARD) is checked


def test_the_smart_card_box_is_for_windows_applications_while_smart_cards_are_allowed() -> None:
    assert dialog_of(launch(WORD)).always_smart_card is not None
    assert dialog_of(launch(WORD, settings=settings(allow_smart_card=False))).always_smart_card is None
    assert dialog_of(launch(XTERM)).always_smart_card is None


def test_a_cleared_smart_card_box_deletes_the_decision() -> None:
    asked = launch(WORD, SMART_CARD, shift_click=True)
    saving = what_to_save(asked, Answer("ada", "INDIGO", save_password=True))
    assert saving.forgotten == SERVER.name
    assert saving.resource == domain_resource("INDIGO")


# "By default, the user name and password that run an application are stored in the password cache."
def test_passwords_are_saved_by_default() -> None:
    assert dialog_of(launch(XTERM)).save_password == Box(checked=True, locked=False)


# "The user name and password used to log in are stored as well."
def test_the_login_password_is_saved_by_default() -> None:
    assert what_to_save_of_login(LaunchSettings().save_login_password, False, "").saved
    assert not what_to_save_of_login(False, False, "").saved


# "If the user was authenticated by a third party, the login password cannot be stored."
def test_the_login_password_of_a_user_authenticated_by_a_third_party_is_not_saved() -> None:
    assert not what_to_save_of_login(True, True, "INDIGO").saved


def test_a_login_password_is_not_used_for_a_user_authenticated_by_a_third_party() -> None:
    assert isinstance(decide(launch(XTERM, LOGIN_PASSWORD, third_party=True)).result, Dialog)
    assert decide(launch(XTERM, SERVER_ENTRY, third_party=True)).result == Credential(SERVER_ENTRY)


# "Windows applications: no information about success or failure comes back, so the details stay, correct or not."
@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.REFUSED, Outcome.EXPIRED])
def test_an_entry_for_windows_stays_whatever_is_reported(outcome: Outcome) -> None:
    after = reaction_to(launch(WORD), outcome, EntryKind.PASSWORD)
    assert not after.discards
    assert after.next is Simple.CONTINUE


def test_a_refused_login_password_stays_for_other_servers() -> None:
    after = reaction_to(launch(XTERM, LOGIN_PASSWORD), Outcome.REFUSED, EntryKind.LOGIN_PASSWORD)
    assert not after.discards
    assert isinstance(after.next, Dialog)


# "For Windows, an entry is created with the name of the Windows domain."
def test_a_password_for_windows_is_saved_under_the_domain_that_was_typed() -> None:
    asked = launch(WORD, server=replace(SERVER, domain="INDIGO"))
    assert what_to_save(asked, Answer("ada", "SALES", save_password=True)).resource == domain_resource("SALES")
    assert what_to_save(asked, Answer("ada", "", save_password=True)).resource is None


# "Is the domain set on the application server object? Then its entry is searched."
def test_first_the_domain_of_the_application_server_is_tried() -> None:
    asked = launch(
        replace(WORD, domain="SALES"),
        domain_entry("INDIGO"),
        domain_entry("SALES"),
        server=replace(SERVER, domain="INDIGO"),
    )
    decision = decide(asked)
    assert decision.result == Credential(domain_entry("INDIGO"), "INDIGO")
    assert decision.decisive.object == SERVER.name


# "Not set, or no entry: on to step 2", the application object.
@pytest.mark.parametrize(("domain", "finding"), [("", Finding.UNSET), ("INDIGO", Finding.NO_ENTRY)])
def test_then_the_domain_of_the_application_is_tried(domain: str, finding: Finding) -> None:
    asked = launch(replace(WORD, domain="SALES"), domain_entry("SALES"), server=replace(SERVER, domain=domain))
    decision = decide(asked)
    assert decision.result == Credential(domain_entry("SALES"), "SALES")
    assert [step.finding for step in decision.steps[2:]] == [finding, Finding.DECIDED]


# "Not set, or no entry: on to step 3", the user profile object.
@pytest.mark.parametrize("server", ["", "INDIGO"])
@pytest.mark.parametrize("application", ["", "SALES"])
def test_then_the_domain_of_the_user_profile_is_tried(server: str, application: str) -> None:
    asked = launch(
        replace(WORD, domain=application),
        domain_entry("LONDON"),
        server=replace(SERVER, domain=server),
        profile=replace(ADA, domain="LONDON"),
    )
    assert decide(asked).result == Credential(domain_entry("LONDON"), "LONDON")
    assert decide(asked).decisive.object == ADA.name


# "No domain, or no entry: the dialog is displayed."
@pytest.mark.parametrize("profile", [None, ADA, replace(ADA, domain="LONDON")])
def test_without_a_domain_or_an_entry_the_dialog_is_shown(profile: UserProfile | None) -> None:
    assert isinstance(decide(launch(WORD, domain_entry("OTHER"), profile=profile)).result, Dialog)


def test_without_a_domain_neither_the_servers_entry_nor_the_login_password_is_used_for_windows() -> None:
    assert isinstance(decide(launch(WORD, SERVER_ENTRY, LOGIN_PASSWORD)).result, Dialog)


# "The field NT Domain is filled if the domain is set on the server or application, or is cached."
def test_nt_domain_is_filled_from_the_application_server_then_the_application_then_the_cache() -> None:
    asked = launch(
        replace(WORD, domain="SALES"),
        domain_entry("OLD", 1),
        domain_entry("NEW", 2),
        server=replace(SERVER, domain="INDIGO"),
    )
    assert dialog_of(asked).domain == "INDIGO"
    assert dialog_of(replace(asked, server=SERVER)).domain == "SALES"
    assert dialog_of(replace(asked, server=SERVER, application=WORD)).domain == "NEW"


# "If it is set on the user profile only, the field is not filled."
def test_nt_domain_is_not_filled_from_the_user_profile_alone() -> None:
    asked = launch(WORD, profile=replace(ADA, domain="LONDON"))
    assert dialog_of(asked).domain == ""
    cached = replace(asked, entries=by_resource([domain_entry("LONDON")]), shift_click=True)
    assert dialog_of(cached).domain == "LONDON"


def test_other_applications_have_no_field_for_a_domain() -> None:
    asked = launch(XTERM, server=replace(SERVER, domain="INDIGO"))
    assert not dialog_of(asked).has_domain
    assert dialog_of(asked).domain == ""


# "To make users give a domain at their first launch, leave it blank on all three objects."
def test_with_the_domain_blank_on_all_three_objects_the_first_launch_asks_for_it() -> None:
    asked = dialog_of(launch(WORD))
    assert asked.has_domain
    assert asked.domain == ""


# "The login password may be the Windows password too: cached with the domain if the user profile names one."
def test_the_login_password_with_its_domain_is_used_for_windows() -> None:
    profile = replace(ADA, domain="INDIGO")
    saved = what_to_save_of_login(True, False, profile.domain)
    assert saved.domain == "INDIGO"
    login = replace(LOGIN_PASSWORD, domain=saved.domain)
    assert decide(launch(WORD, login, profile=profile)).result == Credential(login, "INDIGO")
    own = domain_entry("INDIGO")
    assert decide(launch(WORD, login, own, profile=profile)).result == Credential(own, "INDIGO")


def test_the_login_password_without_a_domain_is_not_used_for_windows() -> None:
    assert isinstance(decide(launch(WORD, LOGIN_PASSWORD, profile=replace(ADA, domain="INDIGO"))).result, Dialog)


# "If network-level authentication fails with a cached password, a warning asks to retry with Shift."
@pytest.mark.parametrize("used", [EntryKind.PASSWORD, EntryKind.LOGIN_PASSWORD])
def test_a_failed_network_level_authentication_asks_for_a_retry_with_shift(used: EntryKind) -> None:
    after = reaction_to(launch(WORD), Outcome.NETWORK_LEVEL_AUTHENTICATION_FAILED, used)
    assert after.next is Simple.RETRY_WITH_SHIFT
    assert not after.discards


def test_a_failed_network_level_authentication_with_a_typed_password_shows_the_dialog_again() -> None:
    after = reaction_to(launch(WORD), Outcome.NETWORK_LEVEL_AUTHENTICATION_FAILED, None)
    assert isinstance(after.next, Dialog)


# "Without enhanced network security, RDP security is used."
@pytest.mark.parametrize("application", [XTERM, replace(WORD, enhanced_network_security=False)])
def test_network_level_authentication_cannot_fail_where_it_is_not_used(application: Application) -> None:
    with pytest.raises(ValueError, match="enhanced network security"):
        reaction_to(launch(application), Outcome.NETWORK_LEVEL_AUTHENTICATION_FAILED, EntryKind.PASSWORD)


def test_dynamic_application_servers_are_resources_too() -> None:
    asked = launch(XTERM, SERVER_ENTRY, server=replace(SERVER, dynamic=True))
    assert decide(asked).result == Credential(SERVER_ENTRY)


def test_a_decision_names_every_step_until_the_one_that_decided() -> None:
    asked = launch(replace(WORD, domain="SALES"), domain_entry("SALES"), server=replace(SERVER, domain="INDIGO"))
    told = [(step.rule, step.finding, step.object, step.value) for step in decide(asked).steps]
    assert told == [
        ("shift-click", Finding.OFF, "launch", "false"),
        ("smart card", Finding.NO_ENTRY, SERVER.name, ""),
        ("domain of the application server", Finding.NO_ENTRY, SERVER.name, "INDIGO"),
        ("domain of the application", Finding.DECIDED, WORD.name, "SALES"),
    ]
    assert [rule.name for rule in RULES[True]][:4] == [rule for rule, *_ in told]


def test_an_explanation_says_what_would_change_the_decision() -> None:
    asked = launch(WORD, domain_entry("INDIGO"))
    changes = {change.text: change.result for change in what_would_change(asked)}
    used = "the entry for .../_wns/INDIGO, domain INDIGO"
    for holder in (SERVER.name, WORD.name, ADA.name):
        assert changes[f"set domain of {holder} to INDIGO"] == used
    assert changes["set the launch setting show_dialog to none"] == "a launch failure: no credential"
    assert "launch with Shift" not in changes


def test_an_explanation_of_a_used_entry_says_what_would_stop_its_use() -> None:
    changes = {change.text for change in what_would_change(launch(XTERM, SERVER_ENTRY))}
    assert changes == {"launch with Shift", f"delete the entry for {SERVER.name}"}


def test_domains_that_differ_in_case_alone_are_the_same() -> None:
    server = replace(SERVER, domain="indigo")
    assert decide(launch(WORD, domain_entry("INDIGO"), server=server)).result == Credential(
        domain_entry("INDIGO"), "indigo"
    )
    login = replace(LOGIN_PASSWORD, domain="Indigo")
    assert decide(launch(WORD, login, server=server)).result == Credential(login, "indigo")
