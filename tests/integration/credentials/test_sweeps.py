"""Steps of a re-keying, between whose reading and writing something else happens."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_credentials.keys.sweep import BATCH, Sweep
from keyreeve_credentials.settings import CredentialsSettings
from support.vault import vault_settings
from support.vault_storage import VaultStorage, opened


@dataclass(frozen=True)
class Interrupted:
    """A store in which something happens before each write."""

    store: Any
    meanwhile: Callable[[], Awaitable[object]]

    async def read(self, work: Callable[[Any], Any]) -> Any:
        return await self.store.read(work)

    async def write(self, work: Callable[[Any], Any]) -> Any:
        await self.meanwhile()
        return await self.store.write(work)


def _no_alarm(row: str, why: str) -> None:
    raise AssertionError(f"{row}: {why}")


async def step(vault: VaultStorage, operation: Operation, meanwhile: Callable[[], Awaitable[object]]) -> Operation:
    """Run one step; the operation after it."""
    alarms: list[tuple[str, str]] = []
    context = vault.context
    sweep = Sweep(context.vault, context.now, lambda *alarm: alarms.append(alarm), 1e6, 0)
    await sweep.step(Interrupted(context.store, meanwhile), operation)  # type: ignore[arg-type]  # as much as a step needs
    assert alarms == []
    found: Operation = await context.store.read(lambda tx: tx.operations.get(operation.operation_id))
    return found


async def test_an_entry_that_is_changed_meanwhile_keeps_its_new_value(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        made = [await vault.put("sales", f"o=I/cn=P{number}", f"secret {number}") for number in range(3)]
        after = await step(
            vault, await vault.begin_rotation("sales"), lambda: vault.put("sales", "o=I/cn=P1", "changed")
        )
        assert after.done == 3
        assert [await vault.secret(entry) for entry in made] == ["secret 0", "changed", "secret 2"]
        [old, new] = await vault.context.store.read(lambda tx: tx.keks.of_array("sales"))
        assert {(await vault.row(entry))["kek_id"] for entry in made} == {new.kek_id}
        assert old.kek_id != new.kek_id
        assert await vault.scrub() == {}


async def test_an_operation_that_is_cancelled_meanwhile_changes_no_entry(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        made = [await vault.put("sales", f"o=I/cn=P{number}", f"secret {number}") for number in range(3)]
        rows = [await vault.row(entry) for entry in made]
        operation = await vault.begin_rotation("sales")

        async def cancel() -> None:
            await vault.context.store.write(lambda tx: tx.operations.request_cancel(operation.operation_id))

        after = await step(vault, operation, cancel)
        assert after.state is OperationState.CANCELLED
        assert [await vault.row(entry) for entry in made] == rows
        assert await vault.scrub() == {}


async def test_a_step_takes_one_batch_and_the_next_one_goes_on_behind_it(settings: CredentialsSettings) -> None:
    async with opened(settings) as vault:
        for number in range(BATCH + 2):
            await vault.put("sales", f"o=I/cn=P{number}", f"secret {number}")

        async def nothing() -> None: ...

        operation, done = await vault.begin_rotation("sales"), []
        while operation.state is OperationState.RUNNING:
            operation = await step(vault, operation, nothing)
            done.append(operation.done)
        assert done == [BATCH, BATCH + 2, BATCH + 2]
        assert await vault.scrub() == {}


@pytest.mark.parametrize(("taken", "rest"), [(0.0, 2.5), (0.5, 2.0), (7.0, 7.0)])
async def test_a_step_rests_so_that_neither_the_rate_nor_half_of_the_time_is_exceeded(
    taken: float, rest: float, tmp_path: Path
) -> None:
    async with opened(vault_settings(tmp_path)) as vault:
        for number in range(BATCH):
            await vault.put("sales", f"o=I/cn=P{number}", "s3cret")
        times = iter((100.0, 100.0 + taken))
        sweep = Sweep(vault.context.vault, vault.context.now, _no_alarm, 10.0, 0, clock=lambda: next(times))
        begun = await vault.begin_rotation("sales")
        assert await sweep.step(vault.context.store, begun) == pytest.approx(rest)


async def test_a_rotation_that_comes_second_leaves_no_key_behind(tmp_path: Path) -> None:
    async with opened(vault_settings(tmp_path)) as vault:
        await vault.put("sales", "o=I/cn=Bill", "s3cret")
        keys = vault.context.keys
        first, second = await asyncio.gather(keys.rotate("sales", "a"), keys.rotate("sales", "b"))
        assert first.operation_id == second.operation_id
        known = await vault.context.store.read(lambda tx: tx.keks.of_array("sales"))
        assert set(keys.root.list()) == {kek.kek_id for kek in known}
