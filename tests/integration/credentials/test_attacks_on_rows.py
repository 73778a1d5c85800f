"""What an attacker with the database, but without the keys, can do to entries: nothing that goes unnoticed."""

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from keyreeve import errors
from keyreeve.file_values import FileSpace
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.entries.names import ObjectName, parse_owner, parse_resource
from keyreeve_credentials.entries.ports import EntryKind
from keyreeve_credentials.entries.service import EntryValue
from keyreeve_credentials.entries.servicer import deleted_text
from keyreeve_credentials.entries.tables import entries as table
from keyreeve_credentials.key_files.ports import Space
from keyreeve_credentials.key_files.service import KeyFiles, Overwriting
from keyreeve_credentials.key_files.tables import key_files
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import PRAGUE, running_vault, vault_settings
from support.vault_storage import opened

FLIPS = 1_000
SPACE = FileSpace("sales", "core1.example.test")


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
            assert f"INTEGRITY ALARM: {bill.name}" in caplog.text
            await vault.overwrite(bill, present)
        assert await vault.secret(bill) == "canary-new"


async def test_a_row_that_is_found_under_the_name_of_another_is_used_for_nothing(
    settings: CredentialsSettings, caplog: pytest.LogCaptureFixture
) -> None:
    prague, paris = parse_resource(PRAGUE), parse_resource(".../_dns/paris.test")
    async with opened(settings) as vault:
        bill = await vault.put("sales", "o=I/cn=Bill", "canary-bill")
        entries, store = vault.context.entries, vault.context.store
        value = EntryValue("ann", EntryKind.PASSWORD, Plaintext.of("canary-ann"))
        for owner, resource in ((parse_owner("o=I/cn=Ann"), prague), (bill.owner, paris)):
            await vault.overwrite(bill, {"owner_key": owner.key, "resource_key": resource.key})
            place = ("sales", owner, resource)
            found = await store.read(lambda tx, place=place: tx.entries.find(*place))
            for act in (
                lambda found=found: entries.open_stored(store, found),
                lambda place=place: store.write(lambda tx: entries.upsert(tx, *place, value)),
                lambda place=place: store.write(lambda tx: entries.create(tx, *place, value)),
                lambda place=place: store.write(lambda tx: entries.delete_chosen(tx, *place)),
            ):
                caplog.clear()
                with pytest.raises(errors.EntryDamaged, match="names of another") as refused:
                    await act()
                assert f"INTEGRITY ALARM: {bill.name}" in caplog.text
                assert "canary" not in refused.value.message + caplog.text


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
        names = ("Bill", "Ann", "Eve", "Joe", "Kim", "Pam", "Zoe")
        bill, ann, eve, joe, kim, pam, zoe = [await vault.put("sales", f"o=I/cn={name}", "old") for name in names]
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
        await vault.overwrite(pam, {"owner_key": ".../_ens/o=i/cn=ivy"})
        names = {"owner": ".../_ens/o=I/cn=Max", "owner_key": ".../_ens/o=i/cn=max"}
        added = (await vault.row(kim)) | {"entry_uid": "a" * 32} | names
        await vault.execute(insert(table).values(**added))
        found = await vault.scrub()
    assert found == {
        bill.name: "an older state of it has been put back",
        eve.name: "it was deleted, and has been put back",
        ann.name: "it is gone",
        joe.name: "it is not what was written",
        pam.name: "it is found under the names of another owner or resource",
        "arrays/sales/entries/" + "a" * 32: "no audit record tells of it",
    }
    assert zoe.name not in found


async def test_the_scrubber_compares_key_files_too(settings: CredentialsSettings, tmp_path: Path) -> None:
    async with running_vault(settings, tmp_path) as running:
        files = (await running.client()).credentials.files
        for name in ("a.bin", "b.bin", "c.bin", "d.bin"):
            await files.put(SPACE, name, Plaintext.of(f"old {name}"))
    async with opened(settings) as vault:
        query = select(key_files).where(key_files.c.name.in_(["a.bin", "c.bin"]))
        old = await vault.context.store.read(lambda tx: tx._connection.execute(query).mappings().all())
    async with running_vault(settings, tmp_path) as running:
        files = (await running.client()).credentials.files
        await files.put(SPACE, "a.bin", Plaintext.of("new"), replace=True)
        await files.rename(SPACE, "b.bin", "e.bin")
        await files.delete(SPACE, "c.bin")
    where = f"arrays/sales/servers/{SPACE.server}/files/"
    async with opened(settings) as vault:
        assert await vault.scrub() == {}
        await vault.execute(key_files.delete().where(key_files.c.name.in_(["a.bin", "d.bin", "a-replaced-1.bin"])))
        for row in old:
            await vault.execute(insert(key_files).values(**row))
        await vault.execute(update(key_files).where(key_files.c.name == "e.bin").values(updated_at=1))
        assert await vault.scrub() == {
            f"{where}a.bin": "it is not what was written",
            f"{where}c.bin": "it was deleted, and has been put back",
            f"{where}d.bin": "it is gone",
            f"{where}a-replaced-1.bin": "it is gone",
            f"{where}e.bin": "it is not what was written",
        }


def flipped(value: Any, random_: random.Random) -> Any:
    """The value with one bit of its bytes changed."""
    if isinstance(value, int):
        return value ^ (1 << random_.randrange(40))
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    bit = 1 << random_.randrange(8)
    raw[random_.choice([i for i, octet in enumerate(raw) if octet != bit])] ^= bit  # PostgreSQL holds no NUL in texts
    return raw.decode("latin-1") if isinstance(value, str) else bytes(raw)


async def test_a_thousand_flipped_bits_never_make_a_wrong_password(settings: CredentialsSettings) -> None:
    random_ = random.Random(19)
    flips = FLIPS if settings.sqlite_file is not None else FLIPS // 10
    async with opened(settings) as vault:
        names = [f"o=I/cn={random_.randrange(16**8):08x}" for _ in range(10)]
        passwords = {name: f"password of {name}" for name in names}
        made = {owner: await vault.put("sales", owner, password) for owner, password in passwords.items()}
        rows = {owner: await vault.row(entry) for owner, entry in made.items()}
        ends: dict[str, int] = {}
        for _ in range(flips):
            owner = random_.choice(list(made))
            row = rows[owner]
            column = random_.choice([name for name, value in row.items() if value not in {"", b""}])
            changed = flipped(row[column], random_)
            await vault.overwrite(made[owner], {column: changed})
            # Under the name that a flip made: what its owner would get.
            looked_up = ObjectName(changed if column == "owner_key" else made[owner].owner.text)
            resource = ObjectName(changed if column == "resource_key" else PRAGUE)
            try:
                found = await vault.context.store.read(
                    lambda tx, owner=looked_up, resource=resource: tx.entries.find("sales", owner, resource)
                )
                if found is not None and column in {"owner_key", "resource_key"}:
                    with pytest.raises(errors.EntryDamaged):
                        vault.context.entries.open(found)
                    end = "misplaced"
                elif found is None:
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
        assert sum(ends.values()) == flips
        assert ends["ENTRY_DAMAGED"] > flips / 3
        assert ends["misplaced"]
        for owner, entry in made.items():
            assert await vault.secret(entry) == passwords[owner]


async def test_flipped_bits_of_a_key_file_never_make_other_contents(tmp_path: Path) -> None:
    random_ = random.Random(20)
    async with opened(vault_settings(tmp_path)) as vault:
        context = vault.context
        files, space = KeyFiles(context.vault, context.now, lambda _row, _why: None), Space("sales", SPACE.server)
        contents = {name: Plaintext.of(f"contents of {name}") for name in ("a.key", "b.key", "c.key")}
        await context.vault.prepare("sales")
        await context.store.write(lambda tx: files.write(tx, space, contents, Overwriting()))
        query = select(key_files).order_by(key_files.c.name)
        rows = await context.store.read(lambda tx: tx._connection.execute(query).mappings().all())
        ends: dict[str, int] = {}
        for _ in range(FLIPS // 10):
            row = random_.choice(rows)
            column = random_.choice([name for name, value in row.items() if not isinstance(value, bool)])
            changed = flipped(row[column], random_)
            where = key_files.c.file_uid == row["file_uid"]
            await vault.execute(update(key_files).where(where).values({column: changed}))
            name = changed if column == "name" else row["name"]
            place = Space(*(changed if column == part else row[part] for part in ("array_id", "server")))
            try:
                found = await context.store.read(lambda tx, place=place, name=name: files.read(tx, place, name))
                assert (found, column) == (contents[row["name"]].reveal(), column)
                end = "harmless"
            except (errors.KeyFileDamaged, errors.VaultKeyUnavailable, errors.KeyFileNotFound) as refused:
                end = refused.reason
            ends[end] = ends.get(end, 0) + 1
            at = key_files.c.wrapped_key == row["wrapped_key"] if column == "file_uid" else where
            await vault.execute(update(key_files).where(at).values(**row))
        assert ends["KEY_FILE_DAMAGED"] > FLIPS / 30
