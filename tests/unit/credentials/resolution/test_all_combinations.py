"""The rules agree with the decision tables of `support.resolution_tables` on all combinations."""

from collections.abc import Mapping
from itertools import islice

import pytest

from keyreeve_credentials.launch_settings.layers import DialogDisplay, ExpiredPasswordAction, LaunchSettings
from keyreeve_credentials.objects.ports import (
    Application,
    ApplicationKind,
    ApplicationServer,
    PasswordCacheUsage,
    UserProfile,
)
from keyreeve_credentials.resolution.dialog import Answer, Box, Dialog, dialog_for, what_to_save, what_to_save_of_login
from keyreeve_credentials.resolution.launch import LOGIN, CachedEntry, EntryKind, Launch, by_resource, domain_resource
from keyreeve_credentials.resolution.outcomes import Outcome, Simple, reaction_to
from keyreeve_credentials.resolution.rules import Credential, LaunchFailure, Result, decide
from support.resolution_tables import (
    DIALOG_DIMENSIONS,
    LOGIN_DIMENSIONS,
    OUTCOME_DIMENSIONS,
    answer,
    boxes,
    cases,
    login_saved,
    reaction,
    saved,
)

SERVER = ".../_ens/o=Indigo/cn=prague"
PARTS = 11
"""All combinations are as many tests, the first of which is not among the faults; the number divides no dimension."""
KINDS = {"windows": ApplicationKind.WINDOWS, "x": ApplicationKind.X}


def launch_of(case: Mapping[str, str]) -> Launch:
    entries = [
        CachedEntry(domain_resource(d), EntryKind.PASSWORD, used_at=ord(d)) for d in case["domain_entries"].split()
    ]
    if case["server_entry"]:
        kind = EntryKind.SMART_CARD if case["server_entry"] == "card" else EntryKind.PASSWORD
        entries.append(CachedEntry(SERVER, kind))
    if case["login"]:
        domain = "" if case["login"] == "plain" else case["login"]
        entries.append(CachedEntry(LOGIN, EntryKind.LOGIN_PASSWORD, domain=domain))
    return Launch(
        "o=Indigo/cn=Ada",
        ApplicationServer(SERVER, False, case["server_domain"], PasswordCacheUsage(case["server_usage"])),
        Application("o=Indigo/cn=Write", KINDS[case["kind"]], case["application_domain"]),
        # Without a profile everything is as with one that has no domain: tried with a third of these cases.
        UserProfile("o=Indigo/cn=Ada", case["profile_domain"]) if case["profile_domain"] or case["login"] else None,
        LaunchSettings(
            password_cache_usage=case["array_usage"] == "on",
            allow_smart_card=case["smart_cards"] == "allowed",
            show_dialog=DialogDisplay(case["display"]),
        ),
        by_resource(entries),
        bool(case["shift"]),
        bool(case["third_party"]),
    )


def told(result: Result) -> str:
    match result:
        case Credential(entry, _) if entry.kind is EntryKind.SMART_CARD:
            return "smart"
        case Credential(entry, domain):
            kind = "login" if entry.resource == LOGIN else "domain" if domain else "server"
            return f"use {kind} {domain}".rstrip()
        case Dialog(domain=domain):
            return f"dialog {domain or '-'}"
        case LaunchFailure():
            return "failure"


@pytest.mark.parametrize("part", [0, *(pytest.param(number, marks=pytest.mark.faults) for number in range(1, PARTS))])
def test_the_rules_and_the_decision_tables_agree_on_all_combinations(part: int) -> None:
    seen: dict[str, int] = {}
    for case in islice(cases(), part, None, PARTS):
        expected = answer(case)
        assert told(decide(launch_of(case)).result) == expected, case
        seen[expected] = seen.get(expected, 0) + 1
    assert sum(seen.values()) > 10_000
    assert {text.split()[0] for text in seen} == {"use", "dialog", "smart", "failure"}


def profile_of(case: Mapping[str, str]) -> UserProfile | None:
    return None if case["profile"] == "missing" else UserProfile("o=Indigo/cn=Ada", case["profile"])


def box_told(box: Box | None) -> str:
    if box is None:
        return "absent"
    return ("checked" if box.checked else "cleared") + ("-locked" if box.locked else "")


def test_the_boxes_and_what_they_save_agree_with_the_decision_tables() -> None:
    seen = set()
    for case in cases(DIALOG_DIMENSIONS):
        kind = EntryKind.SMART_CARD if case["server_entry"] == "card" else EntryKind.PASSWORD
        launch = Launch(
            "o=Indigo/cn=Ada",
            ApplicationServer(SERVER),
            Application("o=Indigo/cn=Write", KINDS[case["kind"]]),
            profile_of(case),
            LaunchSettings(
                allow_smart_card=case["smart_cards"] == "allowed",
                save_password_checked=case["save_box"] == "on",
                save_password_enabled=case["save_box_enabled"] == "yes",
                always_smart_card_checked=case["card_box"] == "on",
                always_smart_card_enabled=case["card_box_enabled"] == "yes",
            ),
            by_resource([CachedEntry(SERVER, kind)] if case["server_entry"] else []),
        )
        dialog = dialog_for(launch, "no password is cached")
        assert (box_told(dialog.save_password), box_told(dialog.always_smart_card)) == boxes(case), case
        assert (dialog.has_domain, dialog.domain) == (case["kind"] == "windows", "")
        domain = "LONDON" if case["domain_given"] == "yes" else ""
        saving = what_to_save(launch, Answer("ada", domain, case["save_left"] == "on", case["card_left"] == "on"))
        places = {None: "nowhere", SERVER: f"{saving.kind.value.split()[-1]}-of-server"}
        where = places.get(saving.resource, "password-of-domain")
        assert (where, "given-up" if saving.forgotten else "kept") == saved(case), case
        seen.add(where)
    assert seen == {"nowhere", "card-of-server", "password-of-server", "password-of-domain"}


def test_the_reactions_to_outcomes_agree_with_the_decision_table() -> None:
    outcomes = {
        "success": Outcome.ACCEPTED,
        "refused": Outcome.REFUSED,
        "expired": Outcome.EXPIRED,
        "nla": Outcome.NETWORK_LEVEL_AUTHENTICATION_FAILED,
    }
    used = {"password": EntryKind.PASSWORD, "login": EntryKind.LOGIN_PASSWORD, "card": EntryKind.SMART_CARD}
    steps = {Simple.CONTINUE: "continue", Simple.TERMINAL: "terminal", Simple.RETRY_WITH_SHIFT: "retry-shift"}
    seen = set()
    for case in cases(OUTCOME_DIMENSIONS):
        launch = Launch(
            "o=Indigo/cn=Ada",
            ApplicationServer(SERVER),
            Application("o=Indigo/cn=Write", KINDS[case["kind"]], enhanced_network_security=case["nla"] == "on"),
            settings=LaunchSettings(
                show_dialog=DialogDisplay(case["display"]), expired_password=ExpiredPasswordAction(case["expired"])
            ),
        )
        try:
            found = reaction_to(launch, outcomes[case["outcome"]], used.get(case["used"]))
        except ValueError:
            told = ("impossible", "-")
        else:
            match found.next:
                case Simple():
                    step = steps[found.next]
                case Dialog():
                    step = "dialog"
                case LaunchFailure():
                    step = "failure"
            told = (step, "goes" if found.discards else "stays")
        assert told == reaction(case), case
        seen.add(told[0])
    assert seen == {"impossible", "continue", "terminal", "retry-shift", "dialog", "failure"}


def test_what_is_saved_of_a_login_agrees_with_the_decision_table() -> None:
    for case in cases(LOGIN_DIMENSIONS):
        profile = profile_of(case) or UserProfile("")
        found = what_to_save_of_login(case["setting"] == "on", case["third_party"] == "yes", profile.domain)
        told = ("with-domain" if found.domain else "without-domain") if found.saved else "no"
        assert told == login_saved(case), case
