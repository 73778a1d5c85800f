"""Objects and launch settings over real mutual TLS, on both databases."""

import asyncio
from pathlib import Path

import pytest

from keyreeve import errors
from keyreeve.identity import Role
from keyreeve.launch_values import (
    ApplicationKind,
    DialogDisplay,
    ExpiredPasswordAction,
    LaunchSettings,
    ObjectKind,
    PasswordCacheUsage,
)
from keyreeve.vault_values import PolicyRule
from keyreeve_credentials.settings import CredentialsSettings, VaultSettings
from support.service_in_process import InProcess
from support.vault import running_vault

PRAGUE, WORD, ADA = "o=Indigo/cn=prague", "o=Indigo/cn=Word", "o=Indigo/cn=Ada"


async def test_an_object_is_created_read_changed_and_deleted(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        objects = (await vault.client(Role.OPERATOR)).credentials.objects
        usage = PasswordCacheUsage.NEVER
        made = await objects.create(
            "sales", PRAGUE, ObjectKind.APPLICATION_SERVER, domain="INDIGO", password_cache_usage=usage
        )
        assert (made.array, made.name, made.domain, made.version) == ("arrays/sales", f".../_ens/{PRAGUE}", "INDIGO", 1)
        assert await objects.get("sales", PRAGUE.upper().replace("O=", "o=")) == made
        with pytest.raises(errors.ObjectExists):
            await objects.create("sales", "o=INDIGO/cn=Prague", ObjectKind.USER_PROFILE)

        changed = await objects.update("sales", PRAGUE, domain="", version=1)
        assert (changed.domain, changed.password_cache_usage, changed.version) == ("", usage, 2)
        with pytest.raises(errors.ObjectVersionStale):
            await objects.update("sales", PRAGUE, domain="X", version=1)

        await objects.delete("sales", PRAGUE)
        with pytest.raises(errors.ObjectNotFound):
            await objects.get("sales", PRAGUE)
        with pytest.raises(errors.ObjectNotFound):
            await objects.delete("sales", PRAGUE)


async def test_a_list_has_the_objects_that_the_rules_of_the_caller_name(vault_on_sqlite: InProcess) -> None:
    admin = (await vault_on_sqlite.client()).credentials
    for name in ("a", "b"):
        await admin.objects.create("sales", f".../_dns/{name}.test", ObjectKind.APPLICATION_SERVER)
    rule = PolicyRule(("operators/auditor/*",), ("list",), resources=(".../_dns/b.*",))
    await admin.policies.apply("built-in", [PolicyRule(("operators/admin/*",), ("*",)), rule])
    auditor = (await vault_on_sqlite.client(Role.AUDITOR)).credentials
    async with asyncio.timeout(5):
        while (found := [one.name async for one in auditor.objects.list("sales")]) != [".../_dns/b.test"]:
            assert found == [".../_dns/a.test", ".../_dns/b.test"], "before the rules are in force"


async def test_objects_are_listed_by_kind_in_pages(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        objects = (await vault.client()).credentials.objects
        await objects.create("sales", WORD, ObjectKind.APPLICATION, application_kind=ApplicationKind.WINDOWS)
        for name in ("c", "a", "b"):
            await objects.create("sales", f".../_dns/{name}.test", ObjectKind.DYNAMIC_APPLICATION_SERVER)
        await objects.create("finance", ADA, ObjectKind.USER_PROFILE)
        found = [one.name async for one in objects.list("sales", page_size=2)]
        assert found == [".../_dns/a.test", ".../_dns/b.test", ".../_dns/c.test", f".../_ens/{WORD}"]
        applications = [one async for one in objects.list("sales", kind=ObjectKind.APPLICATION)]
        assert [one.enhanced_network_security for one in applications] == [True]


@pytest.mark.parametrize(
    ("name", "kind", "attributes", "field"),
    [
        (ADA, ObjectKind.APPLICATION, {}, "object.application_kind"),
        (ADA, ObjectKind.USER_PROFILE, {"application_kind": ApplicationKind.X}, "object.application_kind"),
        (ADA, ObjectKind.APPLICATION, {"application_kind": ApplicationKind.X, "domain": "A"}, "object.domain"),
        (ADA, ObjectKind.USER_PROFILE, {"domain": "A*"}, "object.domain"),
        (
            ADA,
            ObjectKind.USER_PROFILE,
            {"password_cache_usage": PasswordCacheUsage.TRY},
            "object.password_cache_usage",
        ),
        (ADA, ObjectKind.USER_PROFILE, {"enhanced_network_security": False}, "object.enhanced_network_security"),
        (".../_dns/a.test", ObjectKind.USER_PROFILE, {}, "object.object_name"),
        ("cn=Ada", ObjectKind.USER_PROFILE, {}, "object.object_name"),
    ],
)
async def test_an_object_has_only_the_attributes_of_its_kind(
    name: str, kind: ObjectKind, attributes: dict[str, object], field: str, vault_on_sqlite: InProcess
) -> None:
    client = await vault_on_sqlite.client()
    with pytest.raises(errors.FieldInvalid) as refused:
        await client.credentials.objects.create("sales", name, kind, **attributes)
    assert refused.value.violations[0].field == field


async def test_a_servers_settings_lie_over_those_of_the_array_and_take_effect_at_once(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        launch_settings = (await vault.client(Role.OPERATOR)).credentials.launch_settings
        before = await launch_settings.get("sales")
        assert before.own == LaunchSettings()
        assert before.effective.show_dialog is DialogDisplay.USER

        changed = LaunchSettings(
            show_dialog=DialogDisplay.NONE,
            expired_password=ExpiredPasswordAction.MANUAL,
            save_password_checked=False,
            dialog_delay_seconds=0,
        )
        array = await launch_settings.update("sales", changed)
        assert array.own == changed
        assert array.from_array == {
            "show_dialog",
            "expired_password",
            "save_password_checked",
            "dialog_delay_seconds",
        }

        await launch_settings.update("sales", LaunchSettings(show_dialog=DialogDisplay.SYSTEM), "a.example.test")
        server = await launch_settings.get("sales", "a.example.test")
        assert server.effective.show_dialog is DialogDisplay.SYSTEM
        assert server.effective.save_password_checked is False
        assert server.effective.dialog_delay_seconds == 0
        assert server.from_server == {"show_dialog"}
        other = await launch_settings.get("sales", "b.example.test")
        assert other.effective.show_dialog is DialogDisplay.NONE
        assert (await launch_settings.get("finance")).own == LaunchSettings()

        removed = await launch_settings.update("sales", LaunchSettings(), "a.example.test", remove=["show_dialog"])
        assert removed.effective.show_dialog is DialogDisplay.NONE
        assert removed.from_server == frozenset()


async def test_an_array_is_given_new_keys_on_restart_where_restarts_are_known(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    vault_section = VaultSettings(membership_address="membership.test:1")
    known = settings.model_copy(update={"vault": vault_section})
    async with running_vault(known, tmp_path) as vault:
        launch_settings = (await vault.client(Role.OPERATOR)).credentials.launch_settings
        on = LaunchSettings(new_key_on_restart=True)
        changed = await launch_settings.update("sales", on)
        assert (changed.own, changed.from_array) == (on, {"new_key_on_restart"})
        assert (await launch_settings.get("sales", "a.example.test")).effective.new_key_on_restart is True
        assert (await launch_settings.get("finance")).effective.new_key_on_restart is False
        with pytest.raises(errors.FieldInvalid, match="whole array"):
            await launch_settings.update("sales", LaunchSettings(new_key_on_restart=False), "a.example.test")
        removed = await launch_settings.update("sales", LaunchSettings(), remove=["new_key_on_restart"])
        assert removed.effective.new_key_on_restart is False
    default = settings.model_copy(update={"vault": vault_section.model_copy(update={"new_key_on_restart": True})})
    async with running_vault(default, tmp_path) as vault:
        launch_settings = (await vault.client(Role.OPERATOR)).credentials.launch_settings
        assert (await launch_settings.get("sales")).effective.new_key_on_restart is True


async def test_new_keys_on_restart_are_refused_where_no_restart_is_known(vault_on_sqlite: InProcess) -> None:
    launch_settings = (await vault_on_sqlite.client()).credentials.launch_settings
    with pytest.raises(errors.RestartsUnknown, match=r"vault\.membership_address"):
        await launch_settings.update("restarting", LaunchSettings(new_key_on_restart=True))
    off = await launch_settings.update("restarting", LaunchSettings(new_key_on_restart=False))
    assert off.own == LaunchSettings(new_key_on_restart=False)


async def test_a_setting_outside_its_values_is_refused(vault_on_sqlite: InProcess) -> None:
    launch_settings = (await vault_on_sqlite.client()).credentials.launch_settings
    with pytest.raises(errors.FieldInvalid):
        await launch_settings.update("sales", LaunchSettings(dialog_delay_seconds=3601))
    with pytest.raises(errors.FieldInvalid):
        await launch_settings.update("sales", LaunchSettings(), remove=["no_such_setting"])
    with pytest.raises(errors.FieldInvalid):
        await launch_settings.update("sales", LaunchSettings())
    with pytest.raises(errors.FieldInvalid):
        await launch_settings.get("sales", "Not A Host")


async def test_a_member_reads_launch_settings_and_a_primary_changes_them(vault_on_sqlite: InProcess) -> None:
    roll = vault_on_sqlite.identity
    member = (await vault_on_sqlite.client(path=roll.enroll("one.test", "sales"))).credentials
    primary = (await vault_on_sqlite.client(path=roll.enroll("two.test", "sales", primary=True))).credentials
    assert (await member.launch_settings.get("sales")).effective.show_dialog is DialogDisplay.USER
    refused = LaunchSettings(allow_smart_card=False)
    for denied in (
        member.launch_settings.update("sales", refused),
        member.objects.get("sales", PRAGUE),
        member.objects.create("sales", PRAGUE, ObjectKind.APPLICATION_SERVER),
        primary.launch_settings.update("finance", refused),
        primary.objects.create("finance", PRAGUE, ObjectKind.APPLICATION_SERVER),
    ):
        with pytest.raises(errors.PolicyDenied):
            await denied
    await primary.launch_settings.update("sales", refused)
    await primary.objects.create("sales", PRAGUE, ObjectKind.APPLICATION_SERVER)
    assert [found.domain async for found in primary.objects.list("sales")] == [""]
    auditor = (await vault_on_sqlite.client(Role.AUDITOR)).credentials
    assert (await auditor.objects.get("sales", PRAGUE)).version == 1
    with pytest.raises(errors.AccessDenied):
        await auditor.objects.delete("sales", PRAGUE)
