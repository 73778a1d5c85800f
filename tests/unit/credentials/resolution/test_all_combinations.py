"""The rules agree with the decision tables of `support.resolution_tables` on all combinations."""

from collections.abc import Mapping

from keyreeve_credentials.launch_settings.layers import DialogDisplay, LaunchSettings
from keyreeve_credentials.objects.ports import (
    Application,
    ApplicationKind,
    ApplicationServer,
    PasswordCacheUsage,
    UserProfile,
)
from keyreeve_credentials.resolution.dialog import Dialog
from keyreeve_credentials.resolution.launch import LOGIN, CachedEntry, EntryKind, Launch, by_resource, domain_resource
from keyreeve_credentials.resolution.rules import Credential, LaunchFailure, Result, decide
from support.resolution_tables import answer, cases

SERVER = ".../_ens/o=Indigo/cn=prague"
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
        UserProfile("o=Indigo/cn=Ada", case["profile_domain"]),
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


def test_the_rules_and_the_decision_tables_agree_on_all_combinations() -> None:
    seen: dict[str, int] = {}
    for case in cases():
        expected = answer(case)
        assert told(decide(launch_of(case)).result) == expected, case
        seen[expected] = seen.get(expected, 0) + 1
    assert sum(seen.values()) > 100_000
    assert {text.split()[0] for text in seen} == {"use", "dialog", "smart", "failure"}
