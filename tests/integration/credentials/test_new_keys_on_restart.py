"""A new key when a member of an array has restarted: coalesced, one at a time, an hour apart."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.operations.ports import OperationState
from keyreeve_chassis.operations.steps import ended_operation
from keyreeve_credentials.keys.ports import MOST_WRAPS
from keyreeve_credentials.keys.service import running_rotation
from keyreeve_credentials.keys.tables import keks
from keyreeve_credentials.launch_settings.layers import LaunchSettings
from keyreeve_credentials.launch_settings.service import set_settings
from keyreeve_credentials.restarts.members import ReportedBoots
from keyreeve_credentials.restarts.ports import Boot
from keyreeve_credentials.restarts.service import APART_SECONDS, NewKeyOnRestart
from keyreeve_credentials.settings import CredentialsSettings
from support.membership import membership_settings, running_membership
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


def new_keys(vault: VaultStorage, members: Members, hour: list[int], defaults: LaunchSettings) -> NewKeyOnRestart:
    return NewKeyOnRestart(vault.context.keys, vault.context.store, members, lambda: hour[0], "test", defaults)


async def turn(vault: VaultStorage, array: str, *, on: bool) -> None:
    """Set an array's `new_key_on_restart`."""
    changes = {"new_key_on_restart": on}
    await vault.context.store.write(lambda tx: set_settings(tx, array, "", changes, restarts_known=True))


async def test_a_changed_boot_id_asks_for_one_new_key_an_hour_apart(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        await vault.put("sales", "o=I/cn=Bill", "s3cret")
        await vault.put("finance", "o=I/cn=Bill", "s3cret")
        members, hour = Members(), [vault.context.now()]
        restarts = new_keys(vault, members, hour, LaunchSettings(new_key_on_restart=True))
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


async def test_a_start_of_an_agent_that_the_membership_service_knows_gives_its_array_a_new_key(tmp_path: Path) -> None:
    (tmp_path / "membership").mkdir()
    async with (
        running_membership(tmp_path / "membership", membership_settings(tmp_path / "membership")) as membership,
        opened(vault_settings(tmp_path)) as vault,
    ):
        agent = await membership.agent("one.example.test")
        array = agent.array.removeprefix("arrays/")
        await vault.put(array, "o=I/cn=Bill", "s3cret")
        hour = [vault.context.now() + APART_SECONDS]
        own = await membership.client("services/credentials/one")
        restarts = replace(
            new_keys(vault, Members(), hour, LaunchSettings(new_key_on_restart=True)),
            boots=ReportedBoots(own.context, membership.address),
        )
        await agent.report()
        assert await restarts.look() == [], "the first report"
        await agent.report()
        assert await restarts.look() == [], "the same start"
        agent.boot_id = "b" * 32
        await agent.report()
        assert await restarts.look() == [array]


async def test_a_restart_asks_for_a_new_key_of_the_arrays_whose_setting_is_on(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        members, hour = Members(), [vault.context.now()]
        restarts = new_keys(vault, members, hour, LaunchSettings())
        for array in ("sales", "finance"):
            await vault.put(array, "o=I/cn=Bill", "s3cret")
            members.boot(f"one of {array}", array, "first")
        await restarts.look()
        hour[0] += APART_SECONDS
        members.boot("one of sales", "sales", "before the setting is on")
        assert await restarts.look() == []
        await turn(vault, "sales", on=True)
        assert await restarts.look() == [], "the restart was before"
        for array in ("sales", "finance"):
            members.boot(f"one of {array}", array, "second")
        assert await restarts.look() == ["sales"]
        await end(vault, "sales")
        keys = await vault.context.store.read(lambda tx: [len(tx.keks.of_array(one)) for one in ("sales", "finance")])
        assert keys == [2, 1]


async def test_a_setting_that_is_turned_off_withdraws_the_requests_that_wait(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        members, hour = Members(), [vault.context.now()]
        restarts = new_keys(vault, members, hour, LaunchSettings(new_key_on_restart=True))
        await vault.put("sales", "o=I/cn=Bill", "s3cret")
        for boot in ("first", "second"):
            members.boot("one", "sales", boot)
            assert await restarts.look() == []
        assert await vault.context.store.read(lambda tx: tx.boots.requests()) == ["sales"]
        await turn(vault, "sales", on=False)
        hour[0] += APART_SECONDS
        assert await restarts.look() == []
        await turn(vault, "sales", on=True)
        assert await restarts.look() == [], "the request is gone"


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
