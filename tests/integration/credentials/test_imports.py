"""Imports over real mutual TLS: all entries or none."""

from pathlib import Path

import pytest

from keyreeve import errors
from keyreeve.plaintext import Plaintext
from keyreeve.request_ids import new_request_id
from keyreeve.vault_values import EntrySource, ImportRow
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import BILL, PRAGUE, running_vault


def row(line: int, owner: str = "", resource: str = PRAGUE, secret: str = "s3cret") -> ImportRow:
    return ImportRow(line, owner or f"o=Indigo/cn=P{line}", resource, f"u{line}", Plaintext.of(secret))


async def test_an_import_creates_all_entries_or_none(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        rows = [row(line) for line in range(1, 301)]
        planned = await entries.import_rows("sales", rows, dry_run=True)
        assert (planned.created, planned.replaced, planned.dry_run) == (300, 0, True)
        assert (await (await vault.client()).credentials.keys.state("sales")).keys == (), "a dry run makes no key"
        assert [entry async for entry in entries.list("sales")] == []

        bad = [*rows, row(301, "nobody"), row(302, "o=INDIGO/cn=p7"), row(303, secret=""), row(304, "ldap")]
        with pytest.raises(errors.ImportRefused) as refused:
            await entries.import_rows("sales", bad)
        assert [violation.field for violation in refused.value.violations] == [
            f"lines[{n}]" for n in (301, 302, 303, 304)
        ]
        assert "line 7" in refused.value.violations[1].description
        assert [entry async for entry in entries.list("sales")] == []

        request_id = new_request_id()
        done = await entries.import_rows("sales", rows, request_id=request_id)
        assert (done.created, done.replaced, done.dry_run) == (300, 0, False)
        assert await entries.import_rows("sales", rows, request_id=request_id) == done
        with pytest.raises(errors.RequestIdReused):
            await entries.import_rows("sales", rows[:1], request_id=request_id)
        found = [entry async for entry in entries.list("sales")]
        assert len(found) == 300
        assert {entry.source for entry in found} == {EntrySource.IMPORT}
        assert (await entries.reveal(found[0].name, purpose="support")).secret.text() == "s3cret"


async def test_entries_that_exist_are_refused_by_line_or_get_a_next_version(
    settings: CredentialsSettings, tmp_path: Path
) -> None:
    async with running_vault(settings, tmp_path) as vault:
        entries = (await vault.client()).credentials.entries
        made = await entries.create("sales", BILL, PRAGUE, "bill", Plaintext.of("old"))
        rows = [row(4), row(5, BILL, secret="new")]
        for dry_run in (True, False):
            with pytest.raises(errors.ImportRefused) as refused:
                await entries.import_rows("sales", rows, dry_run=dry_run)
            assert [violation.field for violation in refused.value.violations] == ["lines[5]"]
        assert (await entries.import_rows("sales", rows, replace=True, dry_run=True)).replaced == 1
        done = await entries.import_rows("sales", rows, replace=True)
        assert (done.created, done.replaced) == (1, 1)
        assert (await entries.get(made.name)).version == 2
        assert (await entries.reveal(made.name, purpose="support")).secret.text() == "new"


async def test_an_import_keeps_to_the_policies(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as vault:
        member = (await vault.client(path=vault.identity.enroll("two.test", "sales"))).credentials.entries
        with pytest.raises(errors.PolicyDenied):
            await member.import_rows("sales", [row(1)])
