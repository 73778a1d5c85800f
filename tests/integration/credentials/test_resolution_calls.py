"""Resolution over real mutual TLS, on both databases."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from keyreeve import errors
from keyreeve.identity import Role
from keyreeve.launch_values import (
    ApplicationKind,
    AuthenticationDialog,
    Credential,
    CredentialKind,
    DialogDisplay,
    Launch,
    LaunchFailure,
    LaunchOutcome,
    LaunchSettings,
    LaunchStep,
    ObjectKind,
    RuleFinding,
)
from keyreeve.plaintext import Plaintext
from keyreeve.values import MemberState
from keyreeve.vault_values import PolicyRule
from keyreeve_chassis.database.opening import writing_database
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.service_in_process import InProcess
from support.vault import running_vault, vault_settings

ADA = "o=Indigo/cn=Ada"
PRAGUE = "o=Indigo/cn=prague"
WORD = "o=Indigo/cn=Word"
XTERM = "o=Indigo/cn=Xterm"
SECRET = Plaintext.of("canary-77aa-password")
LAUNCH = Launch("sales", ADA, XTERM, PRAGUE)
WINDOWS = Launch("sales", ADA, WORD, PRAGUE)


async def launcher(vault: InProcess, name: str = "one.test") -> Any:
    """A member of the array, which launches."""
    return (await vault.client(path=vault.identity.enroll(name, "sales"))).credentials.resolution


async def make_objects(client: Any, server_domain: str = "", profile_domain: str = "") -> None:
    objects = client.credentials.objects
    await objects.create("sales", PRAGUE, ObjectKind.APPLICATION_SERVER, domain=server_domain)
    await objects.create("sales", WORD, ObjectKind.APPLICATION, application_kind=ApplicationKind.WINDOWS)
    await objects.create("sales", XTERM, ObjectKind.APPLICATION, application_kind=ApplicationKind.X)
    await objects.create("sales", ADA, ObjectKind.USER_PROFILE, domain=profile_domain)


async def test_what_a_dialog_saves_is_resolved_by_a_member_and_its_secret_has_to_be_asked_for(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        await make_objects(await vault.client())
        member = await launcher(vault)
        asked = await member.resolve(LAUNCH)
        assert isinstance(asked, AuthenticationDialog)
        assert asked.save_password.checked
        assert not asked.has_domain

        saved = await member.save_answer(LAUNCH, "Ada ", SECRET, save_password=True)
        found = await member.resolve(LAUNCH)
        assert isinstance(found, Credential)
        assert (found.entry, found.user_name, found.kind) == (saved.entry, "Ada ", CredentialKind.PASSWORD)
        assert found.secret == SECRET
        assert "canary" not in repr(found)
        assert isinstance(await member.resolve(replace(LAUNCH, shift_click=True)), AuthenticationDialog)

        again = await member.save_answer(LAUNCH, "ada", Plaintext.of("newer"), save_password=True)
        assert (again.entry, again.entry_version) == (saved.entry, 2)
        entry = await (await vault.client()).credentials.entries.get(saved.entry)
        assert entry.source.value == "dialog"


async def test_the_domain_is_that_of_the_server_then_the_application_then_the_profile(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        await make_objects(client, server_domain="INDIGO", profile_domain="London")
        member = await launcher(vault)
        dialog = await member.resolve(WINDOWS)
        assert (dialog.has_domain, dialog.domain) == (True, "INDIGO")
        await member.save_answer(WINDOWS, "ada", SECRET, domain="LONDON", save_password=True)
        found = await member.resolve(WINDOWS)
        assert (found.domain, found.resource) == ("London", ".../_wns/LONDON")

        explained = await client.credentials.resolution.explain(WINDOWS)
        assert [(step.rule, step.finding) for step in explained.steps][2:] == [
            ("domain of the application server", RuleFinding.NO_ENTRY),
            ("domain of the application", RuleFinding.UNSET),
            ("domain of the user profile", RuleFinding.DECIDED),
        ]
        assert explained.steps[-1].object_name == f".../_ens/{ADA}"
        assert not explained.result.secret
        assert ("delete the entry for .../_wns/LONDON", "a dialog") in explained.changes


async def test_a_launch_setting_takes_effect_at_the_next_launch_of_its_server(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        await make_objects(client)
        one, two = await launcher(vault, "one.test"), await launcher(vault, "two.test")
        never = LaunchSettings(show_dialog=DialogDisplay.NONE)
        await client.credentials.launch_settings.update("sales", never, "one.test")
        assert await one.resolve(LAUNCH) is LaunchFailure.NO_CREDENTIAL
        assert isinstance(await two.resolve(LAUNCH), AuthenticationDialog)
        assert isinstance(await one.resolve(replace(LAUNCH, server="two.test")), AuthenticationDialog)


async def test_a_login_password_is_kept_with_the_domain_of_the_profile(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        await make_objects(client, profile_domain="INDIGO")
        member = await launcher(vault)
        third = await member.save_login("sales", ADA, "ada", SECRET, third_party_authenticated=True)
        assert third.entry == ""
        saved = await member.save_login("sales", ADA, "ada", SECRET)
        for launch, domain in ((WINDOWS, "INDIGO"), (LAUNCH, "")):
            found = await member.resolve(launch)
            assert (found.kind, found.entry, found.domain) == (CredentialKind.LOGIN_PASSWORD, saved.entry, domain)
        refused = await member.report(LAUNCH, LaunchOutcome.REFUSED, entry=saved.entry, entry_version=1)
        assert not refused.discarded
        await client.credentials.launch_settings.update("sales", LaunchSettings(save_login_password=False))
        off = await member.save_login("sales", ADA, "ada", Plaintext.of("newer"))
        assert off.entry == ""
        assert (await member.resolve(LAUNCH)).secret == SECRET


async def test_an_outcome_deletes_a_refused_entry_unless_it_is_for_windows(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        await make_objects(await vault.client(), server_domain="INDIGO")
        member = await launcher(vault)
        saved = await member.save_answer(LAUNCH, "ada", SECRET, save_password=True)
        windows = await member.save_answer(WINDOWS, "ada", SECRET, domain="INDIGO", save_password=True)
        stays = await member.report(WINDOWS, LaunchOutcome.REFUSED, entry=windows.entry, entry_version=1)
        assert (stays.next, stays.discarded) == (LaunchStep.CONTINUE, False)
        shift = LaunchOutcome.NETWORK_LEVEL_AUTHENTICATION_FAILED
        retry = await member.report(WINDOWS, shift, entry=windows.entry, entry_version=1)
        assert retry.next is LaunchStep.RETRY_WITH_SHIFT
        with pytest.raises(errors.FieldInvalid):
            await member.report(LAUNCH, shift, entry=saved.entry, entry_version=1)

        await member.save_answer(LAUNCH, "ada", Plaintext.of("newer"), save_password=True)
        newer = await member.report(LAUNCH, LaunchOutcome.REFUSED, entry=saved.entry, entry_version=1)
        assert not newer.discarded
        gone = await member.report(LAUNCH, LaunchOutcome.REFUSED, entry=saved.entry, entry_version=2)
        assert gone.discarded
        assert isinstance(gone.next, AuthenticationDialog)
        assert isinstance(await member.resolve(LAUNCH), AuthenticationDialog)
        assert isinstance(await member.resolve(WINDOWS), Credential)


async def test_an_answer_is_saved_only_for_a_resource_that_the_caller_may_launch_with(
    vault_on_sqlite: InProcess,
) -> None:
    vault = vault_on_sqlite
    client = await vault.client()
    await make_objects(client, server_domain="INDIGO")
    place = ("sales", ADA, ".../_wns/INDIGO")
    made = await client.credentials.entries.create(*place, "ada", SECRET)
    narrow = PolicyRule(("workloads/billing/*",), ("launch",), resources=(f".../_ens/{PRAGUE}",))
    await client.credentials.policies.apply("narrow", [narrow])
    billing = (await vault.client(path="workloads/billing/api")).credentials.resolution
    async with asyncio.timeout(5):
        while True:
            try:
                await billing.resolve(LAUNCH)
                break
            except errors.PolicyDenied:
                await asyncio.sleep(0)  # in force within a second
    for domain in ("INDIGO", "LONDON"):
        with pytest.raises(errors.PolicyDenied):
            await billing.save_answer(WINDOWS, "eve", Plaintext.of("x"), domain=domain, save_password=True)
    assert (await billing.save_answer(LAUNCH, "eve", Plaintext.of("x"), save_password=True)).entry
    assert (await client.credentials.entries.get(made.name)).version == 1


async def test_an_outcome_of_another_system_deletes_no_entry_of_a_windows_domain(vault_on_sqlite: InProcess) -> None:
    await make_objects(await vault_on_sqlite.client(), server_domain="INDIGO")
    member = await launcher(vault_on_sqlite)
    windows = await member.save_answer(WINDOWS, "ada", SECRET, domain="INDIGO", save_password=True)
    told = await member.report(LAUNCH, LaunchOutcome.REFUSED, entry=windows.entry, entry_version=1)
    assert not told.discarded
    assert (await member.resolve(WINDOWS)).secret == SECRET


async def test_the_dialog_offers_the_domain_whose_password_was_used_last(tmp_path: Path) -> None:
    now = int(time.time())
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path, now=lambda: now) as vault:
        await make_objects(await vault.client())
        member, admin = await launcher(vault), (await vault.client()).credentials
        for domain in ("INDIGO", "LONDON"):
            await member.save_answer(WINDOWS, "ada", SECRET, domain=domain, save_password=True)
            now += 1
        for domain in ("INDIGO", "LONDON", "INDIGO"):
            now += 1
            await admin.objects.update("sales", PRAGUE, domain=domain)
            assert (await member.resolve(WINDOWS)).domain == domain
        await admin.objects.update("sales", PRAGUE, domain="")
        assert (await member.resolve(WINDOWS)).domain == "INDIGO"


async def test_an_always_used_smart_card_is_kept_and_given_up(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        await make_objects(await vault.client())
        member = await launcher(vault)
        saved = await member.save_answer(WINDOWS, "", always_smart_card=True)
        found = await member.resolve(WINDOWS)
        assert (found.kind, found.entry) == (CredentialKind.SMART_CARD, saved.entry)
        assert not found.secret
        given_up = await member.save_answer(WINDOWS, "ada", SECRET, domain="INDIGO", save_password=True)
        assert given_up.deleted_entry == saved.entry
        assert isinstance(await member.resolve(WINDOWS), AuthenticationDialog)


async def test_others_than_members_of_the_array_resolve_nothing(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        await make_objects(await vault.client())
        member = await launcher(vault)
        await member.save_answer(LAUNCH, "ada", SECRET, save_password=True)
        other = await vault.client(path=vault.identity.enroll("other.test", "finance"))
        operator = await vault.client(Role.OPERATOR)
        vault.identity.enroll("one.test", "sales", MemberState.DETACHED)
        for refused in (member, other.credentials.resolution, operator.credentials.resolution):
            with pytest.raises(errors.PolicyDenied):
                await refused.resolve(LAUNCH)
            with pytest.raises(errors.PolicyDenied):
                await refused.save_answer(LAUNCH, "eve", SECRET, save_password=True)
            with pytest.raises(errors.PolicyDenied):
                await refused.report(LAUNCH, LaunchOutcome.REFUSED)
        assert isinstance((await operator.credentials.resolution.explain(LAUNCH)).result, Credential)


async def test_unknown_objects_are_named_and_a_server_by_its_dns_name_needs_none(vault_on_sqlite: InProcess) -> None:
    client = await vault_on_sqlite.client()
    await make_objects(client)
    resolution = client.credentials.resolution
    for launch in (
        replace(LAUNCH, application="o=Indigo/cn=none"),
        replace(LAUNCH, application_server="o=Indigo/cn=none"),
        replace(LAUNCH, application_server=WORD),
        replace(LAUNCH, user_profile="o=Indigo/cn=none"),
    ):
        with pytest.raises(errors.ObjectNotFound):
            await resolution.resolve(launch)
    assert isinstance(
        await resolution.resolve(replace(LAUNCH, application_server=".../_dns/a.test")), AuthenticationDialog
    )
    assert isinstance(await resolution.resolve(replace(LAUNCH, owner="anonymous")), AuthenticationDialog)
    with pytest.raises(errors.FieldInvalid):
        await resolution.resolve(replace(LAUNCH, owner="ldap"))


async def test_no_hash_of_a_password_is_stored_with_the_request(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    request_id = "b3f3c0de-0000-4000-8000-000000000001"
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        await make_objects(client)
        resolution = client.credentials.resolution
        saved = await resolution.save_answer(LAUNCH, "ada", SECRET, save_password=True, request_id=request_id)
        repeated = await resolution.save_answer(LAUNCH, "ada", SECRET, save_password=True, request_id=request_id)
        assert repeated == saved
        with pytest.raises(errors.RequestIdReused):
            await resolution.save_answer(
                LAUNCH, "ada", Plaintext.of("other"), save_password=True, request_id=request_id
            )
    with writing_database(settings, SCHEMA) as database, database.engine.connect() as connection:
        rows = connection.execute(text("SELECT payload_sha256 FROM requests"))
        stored = {bytes(row[0]) for row in rows}
    from hashlib import sha256

    from keyreeve import launch_wire
    from keyreeve.credentials.v1 import resolution_service_pb2 as pb

    guess = pb.SaveDialogAnswerRequest(
        launch=launch_wire.to_launch(LAUNCH),
        dialog=pb.DialogAnswer(user_name="ada", save_password=True),
        secret=SECRET.reveal(),
        request_id=request_id,
    )
    assert stored
    assert sha256(guess.SerializeToString(deterministic=True)).digest() not in stored


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE objects SET domain = 'LONDON' WHERE kind = 'application server'",
        "UPDATE launch_settings SET value = 'user'",
    ],
)
async def test_an_object_or_a_setting_that_was_changed_in_the_database_decides_nothing(
    change: str, tmp_path: Path
) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        client = await vault.client()
        await make_objects(client, server_domain="INDIGO")
        never = LaunchSettings(show_dialog=DialogDisplay.NONE)
        await client.credentials.launch_settings.update("sales", never)
        await client.credentials.launch_settings.update("sales", never)
        member = await launcher(vault)
        assert await member.resolve(WINDOWS) is LaunchFailure.NO_CREDENTIAL
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        assert connection.execute(text(change)).rowcount == 1
    async with running_vault(settings, tmp_path) as vault:
        with pytest.raises(errors.TrustTableAltered):
            await (await launcher(vault)).resolve(WINDOWS)
