"""A sample of all combinations, each in an array of its own, over real mutual TLS: the decision tables agree."""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from keyreeve.launch_values import (
    ApplicationKind,
    AuthenticationDialog,
    Credential,
    CredentialKind,
    DialogDisplay,
    Launch,
    LaunchSettings,
    ObjectKind,
    PasswordCacheUsage,
    Resolved,
)
from keyreeve.plaintext import Plaintext
from keyreeve.vault_values import EntryKind
from support.resolution_tables import DIMENSIONS, answer
from support.service_in_process import InProcess

ADA, PRAGUE, APPLICATION = "o=Indigo/cn=Ada", "o=Indigo/cn=prague", "o=Indigo/cn=Write"
SAMPLES = 40
KINDS = {"windows": ApplicationKind.WINDOWS, "x": ApplicationKind.X}


def samples() -> list[dict[str, str]]:
    """Combinations in which applications other than Windows ones have no domain: the service refuses those."""
    rng = random.Random(19)
    found = []
    while len(found) < SAMPLES:
        case = {name: rng.choice(values) for name, values in DIMENSIONS.items()}
        if case["kind"] == "windows" or not case["application_domain"]:
            found.append(case)
    return found


async def lay_out(client: Any, array: str, case: Mapping[str, str]) -> None:
    """Make the objects, settings and entries of a case."""
    objects, entries = client.objects, client.entries
    server_kind, usage = ObjectKind.APPLICATION_SERVER, PasswordCacheUsage(case["server_usage"])
    await objects.create(array, PRAGUE, server_kind, domain=case["server_domain"], password_cache_usage=usage)
    domain, kind = case["application_domain"], KINDS[case["kind"]]
    await objects.create(array, APPLICATION, ObjectKind.APPLICATION, domain=domain, application_kind=kind)
    await objects.create(array, ADA, ObjectKind.USER_PROFILE, domain=case["profile_domain"])
    settings = LaunchSettings(
        show_dialog=DialogDisplay(case["display"]),
        password_cache_usage=case["array_usage"] == "on",
        allow_smart_card=case["smart_cards"] == "allowed",
    )
    await client.launch_settings.update(array, settings)
    if case["login"]:
        domain = "" if case["login"] == "plain" else case["login"]
        await entries.create(array, ADA, "", "ada", Plaintext.of("login"), domain=domain)
    for name in case["domain_entries"].split():
        await entries.create(array, ADA, f".../_wns/{name}", "ada", Plaintext.of(name))
    if case["server_entry"] == "card":
        await entries.create(array, ADA, PRAGUE, "ada", kind=EntryKind.SMART_CARD)
    elif case["server_entry"]:
        await entries.create(array, ADA, PRAGUE, "ada", Plaintext.of("server"))


def told(result: Resolved) -> str:
    match result:
        case Credential(kind=CredentialKind.SMART_CARD):
            return "smart"
        case Credential(kind=kind, domain=domain):
            used = "login" if kind is CredentialKind.LOGIN_PASSWORD else "domain" if domain else "server"
            assert result.secret.text() == (domain if used == "domain" else used)
            return f"use {used} {domain}".rstrip()
        case AuthenticationDialog(domain=domain):
            return f"dialog {domain or '-'}"
    return "failure"


@pytest.mark.slow
async def test_the_service_and_the_decision_tables_agree_on_a_sample(vault_on_sqlite: InProcess) -> None:
    client = (await vault_on_sqlite.client()).credentials
    seen = set()
    for number, case in enumerate(samples()):
        await lay_out(client, f"a{number}", case)
        shift, third_party = bool(case["shift"]), bool(case["third_party"])
        launch = Launch(f"a{number}", ADA, APPLICATION, PRAGUE, "", "", shift, third_party)
        result = told(await client.resolution.resolve(launch))
        assert result == answer(case), case
        seen.add(result.split()[0])
        explained = await client.resolution.explain(launch)
        assert type(explained.result) is type(await client.resolution.resolve(launch))
    assert seen == {"use", "dialog", "smart", "failure"}
