"""A new key when a member of an array has restarted: coalesced, one at a time, an hour apart."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.operations.ports import OperationState
from keyreeve_chassis.operations.steps import ended_operation
from keyreeve_credentials.keys.ports import MOST_WRAPS
from keyreeve_credentials.keys.service import running_rotation
from keyreeve_credentials.keys.tables import keks
from keyreeve_credentials.restarts.ports import Boot
from keyreeve_credentials.restarts.service import APART_SECONDS, NewKeyOnRestart
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import vault_settings
from support.vault_storage import VaultStorage, opened


class Members:
    """Members that a test restarts."""

    def __init__(self) -> None:
        self.boots: dict[str, Boot] = {}

    def boot(self, name: str, array: str, boot_id: str) -> None:
        self.boots[name] = Boot(array, f"uid of {name}", boot_id)

    async def present(self) -> Sequence[Boot]:
        return list(self.boots.values())


async def end(vault: VaultStorage, array: str) -> None:
    """End the array's rotation, as the sweep does."""

    def ended(tx: object) -> None:
        operation = running_rotation(tx, array)
        assert operation is not None
        tx.operations.update(ended_operation(operation, OperationState.SUCCEEDED, vault.context.now()))  # type: ignore[attr-defined]

    await vault.context.store.write(ended)


async def test_a_changed_boot_id_asks_for_one_new_key_an_hour_apart(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        await vault.put("sales", "o=I/cn=Bill", "s3cret")
        await vault.put("finance", "o=I/cn=Bill", "s3cret")
        members, hour = Members(), [vault.context.now()]
        restarts = NewKeyOnRestart(vault.context.keys, vault.context.store, members, lambda: hour[0], "test")
        for name, array in (("one", "sales"), ("two", "sales"), ("three", "finance"), ("four", "without-entries")):
            members.boot(name, array, "first")
        assert await restarts.look() == [], "the first report of a member is no restart"
        for name, array in (("one", "sales"), ("two", "sales"), ("three", "finance"), ("four", "without-entries")):
            members.boot(name, array, "second")
        assert await restarts.look() == [], "the keys are new"
        hour[0] += APART_SECONDS
        first = await restarts.look()
        assert len(first) == 1
        assert await restarts.look() == [], "one sweep at a time"
        await end(vault, first[0])
        second = await restarts.look()
        assert {*first, *second} == {"sales", "finance"}
        await end(vault, second[0])
        assert await restarts.look() == []
        keys = await vault.context.store.read(lambda tx: tx.keks.of_array("sales"))
        assert len(keys) == 2


async def test_a_key_that_has_wrapped_much_is_replaced_and_a_used_up_one_writes_no_more(tmp_path: Path) -> None:
    async with opened(vault_settings(tmp_path)) as vault:
        entry = await vault.put("sales", "o=I/cn=Bill", "s3cret")
        assert await vault.context.keys.replace_worn("test") == []
        await vault.execute(keks.update().values(wraps=MOST_WRAPS))
        with pytest.raises(VaultKeyUnavailable, match="used up"):
            await vault.put("sales", "o=I/cn=Ann", "s3cret")
        assert await vault.secret(entry) == "s3cret"
        assert await vault.context.keys.replace_worn("test") == ["sales"]
        assert await vault.context.keys.replace_worn("test") == []
        await vault.put("sales", "o=I/cn=Ann", "s3cret")
