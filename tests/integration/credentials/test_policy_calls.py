"""Policies over real mutual TLS: who reads what, and what a detached member may no longer do."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from keyreeve import errors
from keyreeve.identity import Role
from keyreeve.launch_values import ApplicationKind, Launch, ObjectKind
from keyreeve.plaintext import Plaintext
from keyreeve.values import MemberState
from keyreeve.vault_values import Membership, PolicyRule
from keyreeve_chassis.database.opening import writing_database
from keyreeve_credentials.metrics import UNUSUAL_READS
from keyreeve_credentials.settings import CredentialsSettings
from keyreeve_credentials.store.schema import SCHEMA
from support.service_in_process import InProcess
from support.vault import BILL, PRAGUE, running_vault, vault_settings

SECRET = Plaintext.of("canary-5f0e-password")
SUPPORT = PolicyRule(("members/*",), ("support",), Membership.MEMBER_OF_ARRAY, resources=("*prague*",))


async def test_members_act_in_their_array_alone_and_a_primary_manages(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        roll = vault.identity
        primary = (await vault.client(path=roll.enroll("one.test", "sales", primary=True))).credentials
        member = (await vault.client(path=roll.enroll("two.test", "sales"))).credentials
        stranger = (await vault.client(path="members/three.test")).credentials
        made = await primary.entries.create("sales", BILL, PRAGUE, "bill", SECRET)
        with pytest.raises(errors.PolicyDenied) as refused:
            await primary.entries.create("finance", BILL, PRAGUE, "bill", SECRET)
        assert refused.value.metadata["standing"] == "none"
        assert "(no member of arrays/finance)" in refused.value.message
        for other in (member, stranger):
            with pytest.raises(errors.PolicyDenied):
                await other.entries.update(made.name, user_name="x")
            with pytest.raises(errors.PolicyDenied):
                await other.entries.delete(made.name)
            with pytest.raises(errors.PolicyDenied):
                await other.entries.delete_all("sales", owner=BILL)
            with pytest.raises(errors.PolicyDenied):
                await other.entries.get(made.name)
            with pytest.raises(errors.PolicyDenied):
                [entry async for entry in other.entries.list("sales")]
        assert [entry.name async for entry in primary.entries.list("sales")] == [made.name]


@pytest.mark.parametrize("purpose", ["list", "manage", "launch"])
async def test_no_secret_is_read_for_a_purpose_that_is_granted_without_secrets(
    purpose: str, vault_on_sqlite: InProcess
) -> None:
    vault = vault_on_sqlite
    made = await (await vault.client()).credentials.entries.create("sales", BILL, PRAGUE, "bill", SECRET)
    primary = vault.identity.enroll("one.test", "sales", primary=True)
    for caller in (await vault.client(Role.OPERATOR), await vault.client(path=primary), await vault.client()):
        with pytest.raises(errors.FieldInvalid, match="reserved"):
            await caller.credentials.entries.reveal(made.name, purpose=purpose)


async def test_a_detached_member_reads_no_more(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        admin = (await vault.client()).credentials
        made = await admin.entries.create("sales", BILL, PRAGUE, "bill", SECRET)
        member = (await vault.client(path=vault.identity.enroll("two.test", "sales"))).credentials
        with pytest.raises(errors.PolicyDenied):
            await member.entries.reveal(made.name, purpose="support")
        await admin.policies.apply("support", [SUPPORT])
        async with asyncio.timeout(5):
            while True:
                try:
                    assert (await member.entries.reveal(made.name, purpose="support")).secret == SECRET
                    break
                except errors.PolicyDenied:
                    continue  # in force within a second
        vault.identity.enroll("two.test", "sales", MemberState.DETACHED)
        with pytest.raises(errors.PolicyDenied):
            await member.entries.reveal(made.name, purpose="support")


async def test_policies_have_versions_and_equal_rules_make_none(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        policies = (await vault.client()).credentials.policies
        assert [(policy.name, policy.version) async for policy in policies.list()] == [("policies/built-in", 0)]
        first = await policies.apply("support", [SUPPORT])
        assert (first.version, first.rules) == (1, (SUPPORT,))
        assert await policies.apply("support", [SUPPORT]) == first
        second = await policies.apply("support", [], version=1)
        assert (second.version, second.rules) == (2, ())
        with pytest.raises(errors.PolicyVersionStale):
            await policies.apply("support", [SUPPORT], version=1)
        listed = [(policy.name, policy.version) async for policy in policies.list(page_size=1)]
        assert listed == [("policies/built-in", 0), ("policies/support", 2)]
        with pytest.raises(errors.FieldInvalid):
            await policies.apply("support", [PolicyRule((), ("*",))])


async def test_a_simulation_tells_which_past_reads_would_end_otherwise(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        admin = (await vault.client()).credentials
        olaf = (await vault.client(Role.OPERATOR)).credentials
        made = await admin.entries.create("sales", BILL, PRAGUE, "bill", SECRET)
        await admin.entries.reveal(made.name, purpose="support")
        with pytest.raises(errors.PolicyDenied):
            await olaf.entries.reveal(made.name, purpose="support")
        auditor = (await vault.client(Role.AUDITOR)).credentials
        rules = [PolicyRule(("operators/operator/*",), ("support",))]
        async with asyncio.timeout(10):  # the log is read up to its last checkpoint
            while (found := await auditor.policies.simulate("support", rules)).examined < 2:
                pass
        assert (found.newly_denied, found.newly_allowed) == (0, 1)
        assert [(read.owner, read.resource, read.purpose, read.allowed) for read in found.reads] == [
            (made.owner, made.resource, "support", True)
        ]
        stricter = await auditor.policies.simulate("built-in", [])
        assert (stricter.examined, stricter.newly_denied) == (2, 1)


async def test_a_simulation_knows_launches_that_were_denied_and_the_server_of_each(tmp_path: Path) -> None:
    async with running_vault(vault_settings(tmp_path), tmp_path) as vault:
        admin = (await vault.client()).credentials
        launch = Launch("sales", BILL, "o=Indigo/cn=Word", PRAGUE)
        windows = ApplicationKind.WINDOWS
        await admin.objects.create("sales", launch.application, ObjectKind.APPLICATION, application_kind=windows)
        await admin.objects.create("sales", PRAGUE, ObjectKind.APPLICATION_SERVER, domain="INDIGO")
        await admin.entries.create("sales", BILL, ".../_wns/INDIGO", "bill", SECRET)
        await admin.resolution.resolve(launch)
        with pytest.raises(errors.PolicyDenied):
            await (await vault.client(Role.OPERATOR)).credentials.resolution.resolve(launch)
        domain_only = [PolicyRule(("*",), ("launch",), resources=(".../_wns/*",))]
        async with asyncio.timeout(10):  # the log is read up to its last checkpoint
            while (found := await admin.policies.simulate("built-in", domain_only)).examined < 2:
                pass
        assert [(read.resource, read.allowed) for read in found.reads] == [(".../_wns/INDIGO", False)]
        both = await admin.policies.simulate("built-in", [PolicyRule(("*",), ("launch",))])
        assert [(read.resource, read.allowed) for read in both.reads] == [(PRAGUE, True)]


async def test_a_row_of_a_policy_that_was_changed_denies_everything(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path)
    async with running_vault(settings, tmp_path) as vault:
        await (await vault.client()).credentials.policies.apply("support", [SUPPORT])
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        connection.execute(text("UPDATE policies SET rules = replace(rules, 'support', '*')"))
    async with running_vault(settings, tmp_path) as vault:
        client = (await vault.client()).credentials
        with pytest.raises(errors.PolicyDamaged):
            [entry async for entry in client.entries.list("sales")]
        with pytest.raises(errors.PolicyDamaged):
            await client.policies.apply("support", [SUPPORT])
        with pytest.raises(errors.PolicyDamaged):
            [policy async for policy in client.policies.list()]


async def test_a_reader_that_is_too_fast_is_told_when_to_come_back(tmp_path: Path) -> None:
    settings = vault_settings(tmp_path, vault={"reads_per_second": 0.001, "reads_at_once": 2})
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        made = await entries.create("sales", BILL, PRAGUE, "bill", SECRET)
        for _ in range(2):
            await entries.reveal(made.name, purpose="support")
        with pytest.raises(errors.ReadRateExceeded):
            await entries.reveal(made.name, purpose="support", timeout=2)


async def test_a_reader_of_many_owners_is_counted_and_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = vault_settings(tmp_path, vault={"unusual_owners": 1})
    before = UNUSUAL_READS._value.get()
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        made = [await entries.create("sales", owner, PRAGUE, "bill", SECRET) for owner in (BILL, "o=Indigo/cn=Ann")]
        await entries.reveal(made[0].name, purpose="support")
        assert UNUSUAL_READS._value.get() == before
        for entry in made:
            await entries.reveal(entry.name, purpose="support")
    assert UNUSUAL_READS._value.get() == before + 1
    assert "operators/admin/ann has read the secrets of more than 1 owners" in caplog.text
