"""What an attacker with the database, but without the keys, can do to entries: nothing that goes unnoticed."""

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from keyreeve import errors
from keyreeve_credentials.entries.names import parse_owner, parse_resource
from keyreeve_credentials.entries.servicer import deleted_text
from keyreeve_credentials.entries.tables import entries as table
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import PRAGUE, vault_settings
from support.vault_storage import opened

FLIPS = 1_000


SEALED = ("kek_id", "wrapped_key", "sealed_user_name", "sealed_secret")


async def test_a_row_copied_over_another_does_not_open_and_the_alarm_names_the_row(
    settings: CredentialsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(settings) as vault:
        bill = await vault.put("sales", "o=I/cn=Bill", "canary-bill")
        ann = await vault.put("sales", "o=I/cn=Ann", "canary-ann", "bill")
        abroad = await vault.put("finance", "o=I/cn=Bill", "canary-abroad")
        old = await vault.row(bill)
        bill = await vault.put("sales", "o=I/cn=Bill", "canary-new")
        present = await vault.row(bill)
        other_place = {name: value for name, value in present.items() if name in {"entry_uid", "owner_key", "array_id"}}
        for source in (
            {name: (await vault.row(ann))[name] for name in SEALED},
            (await vault.row(ann)) | other_place | {"resource_key": "another"},
            {name: (await vault.row(abroad))[name] for name in SEALED},
            {name: old[name] for name in SEALED},
        ):
            await vault.overwrite(bill, source)
            caplog.clear()
            with pytest.raises((errors.EntryDamaged, errors.VaultKeyUnavailable)) as refused:
                await vault.secret(bill)
            assert "canary" not in refused.value.message + caplog.text
            if isinstance(refused.value, errors.EntryDamaged):
                assert f"INTEGRITY ALARM: {bill.name}" in caplog.text
            await vault.overwrite(bill, present)
        assert await vault.secret(bill) == "canary-new"


@pytest.mark.parametrize("field", ["owner", "resource", "user_name", "domain", "kind", "encryption"])
async def test_a_clear_column_that_was_changed_keeps_the_row_shut(tmp_path: Path, field: str) -> None:
    async with opened(vault_settings(tmp_path)) as vault:
        entry = await vault.put("sales", "o=I/cn=Bill", "s3cret")
        changed = {"kind": "smart_card", "encryption": 2}.get(field, "other")
        await vault.overwrite(entry, {field: changed})
        with pytest.raises(errors.EntryDamaged):
            await vault.secret(entry)


async def test_the_scrubber_finds_what_encryption_cannot(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        names = ("Bill", "Ann", "Eve", "Joe", "Kim", "Zoe")
        bill, ann, eve, joe, kim, zoe = [await vault.put("sales", f"o=I/cn={name}", "old") for name in names]
        assert await vault.scrub() == {}
        old_bill, old_eve = await vault.row(bill), await vault.row(eve)
        await vault.put("sales", "o=I/cn=Bill", "new")

        def delete(tx: Any) -> None:
            tx.entries.delete("sales", eve.entry_uid)
            vault.record(tx, deleted_text(eve.name))

        await vault.context.store.write(delete)
        assert await vault.scrub() == {}

        await vault.overwrite(bill, old_bill)
        assert await vault.secret(bill) == "old", "a whole old row opens: detection is all there is"
        await vault.execute(insert(table).values(**old_eve))
        await vault.execute(table.delete().where(table.c.entry_uid == ann.entry_uid))
        await vault.overwrite(joe, {"updated_at": 1})
        added = (await vault.row(kim)) | {"entry_uid": "a" * 32, "owner_key": "another owner"}
        await vault.execute(insert(table).values(**added))
        found = await vault.scrub()
    assert found == {
        bill.name: "an older state of it has been put back",
        eve.name: "it was deleted, and has been put back",
        ann.name: "it is gone",
        joe.name: "it is not what was written",
        "arrays/sales/entries/" + "a" * 32: "no audit record tells of it",
    }
    assert zoe.name not in found


def flipped(value: Any, random_: random.Random) -> Any:
    """The value with one bit of its bytes changed."""
    if isinstance(value, int):
        return value ^ (1 << random_.randrange(40))
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[random_.randrange(len(raw))] ^= 1 << random_.randrange(8)
    return raw.decode("latin-1") if isinstance(value, str) else bytes(raw)


async def test_a_thousand_flipped_bits_never_make_a_wrong_password(tmp_path: Path) -> None:
    random_ = random.Random(19)
    async with opened(vault_settings(tmp_path)) as vault:
        # Names that differ in more than a bit: no flip makes one of another.
        names = [f"o=I/cn={random_.randrange(16**8):08x}" for _ in range(10)]
        passwords = {name: f"password of {name}" for name in names}
        made = {owner: await vault.put("sales", owner, password) for owner, password in passwords.items()}
        rows = {owner: await vault.row(entry) for owner, entry in made.items()}
        ends: dict[str, int] = {}
        for _ in range(FLIPS):
            owner = random_.choice(list(made))
            row = rows[owner]
            column = random_.choice([name for name, value in row.items() if value not in {"", b""}])
            await vault.overwrite(made[owner], {column: flipped(row[column], random_)})
            try:
                found = await vault.context.store.read(
                    lambda tx, owner=owner: tx.entries.find("sales", parse_owner(owner), parse_resource(PRAGUE))
                )
                if found is None:
                    end = "not found"
                else:
                    assert vault.context.entries.open(found).text() == passwords[owner], column
                    end = "harmless"
            except (errors.EntryDamaged, errors.VaultKeyUnavailable) as refused:
                end = refused.reason
            ends[end] = ends.get(end, 0) + 1
            undo = update(table).where(
                table.c.wrapped_key == row["wrapped_key"]
                if column != "wrapped_key"
                else table.c.entry_uid == row["entry_uid"]
            )
            await vault.execute(undo.values(**row))
        assert sum(ends.values()) == FLIPS
        assert ends["ENTRY_DAMAGED"] > FLIPS / 3
        for owner, entry in made.items():
            assert await vault.secret(entry) == passwords[owner]
