"""Operations have no MACs: one that another writes into the database orders nothing that the roll does not say."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from keyreeve.membership_values import RotationKind, RotationPhase
from keyreeve.operation_values import OperationState
from keyreeve_chassis.operations.ports import Operation
from keyreeve_membership.authorities.ports import CaState
from keyreeve_membership.changes.quarantine import QUARANTINE
from keyreeve_membership.changes.removing import REMOVE
from keyreeve_membership.changes.service import DETACH, JOIN
from keyreeve_membership.roll.service import get_member
from keyreeve_membership.rotations.service import START
from keyreeve_membership.store.ports import Transaction
from support.membership import RunningMembership, membership_settings, running_membership


@pytest.fixture
async def membership(tmp_path: Path) -> AsyncIterator[RunningMembership]:
    async with running_membership(tmp_path, membership_settings(tmp_path)) as running:
        yield running


async def forge(membership: RunningMembership, method: str, phase: str, arguments: dict[str, Any]) -> OperationState:
    """Write an operation into the database as another would, and return how it ends."""
    operation = Operation.begin(method, "", phase, arguments, 1)
    await membership.write(lambda tx: tx.operations.add(operation))
    await membership.quiet()
    return (await (await membership.client()).membership.operations.get(operation.operation_id)).state


def facts(membership: RunningMembership) -> tuple[dict[str, CaState], set[str]]:
    """What the CA has done: the states of authorities, and what is revoked."""
    known = membership.authorities.known
    return {name: one.state for name, one in known.items()}, set(membership.authorities.revoked)


async def uid_of(membership: RunningMembership, name: str) -> str:
    uid: str = await membership.read(lambda tx: get_member(tx, name).member_uid)
    return uid


async def test_a_forged_operation_destroys_no_ca_and_revokes_nothing(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    victim = await membership.agent("victim.example.test")
    await victim.turn()
    await membership.quiet()
    before, uid = facts(membership), await uid_of(membership, two.name)
    target, own = one.array.removeprefix("arrays/"), victim.array.removeprefix("arrays/")
    join = {"member_uid": await uid_of(membership, victim.name), "array": target, "own_array": own}
    for phase in ("joining", "retiring"):
        assert await forge(membership, JOIN, phase, join) is OperationState.FAILED
    for phase in ("preparing", "revoking"):
        arguments = {"array": target, "members": {uid: "member"}}
        assert await forge(membership, DETACH, phase, arguments) is OperationState.FAILED
    assert await forge(membership, REMOVE, "destroying", {"array": own}) is OperationState.FAILED
    authority = (await (await membership.client()).membership.arrays.get(one.array)).authority
    arguments = {"member": two.name, "authorities": [authority.removeprefix("authorities/")]}
    await forge(membership, QUARANTINE, "revoking", arguments)
    assert facts(membership) == before
    started = await (await membership.client()).membership.rotations.start(one.array, RotationKind.SCHEDULED)
    assert (await membership.until(started.operation, [one, two])).state is OperationState.SUCCEEDED
    before = facts(membership)
    rotation = {"rotation": started.name.removeprefix("rotations/")}
    assert await forge(membership, START, "distrusted", rotation) is OperationState.FAILED
    assert facts(membership) == before


async def test_an_operation_of_the_service_does_no_more_than_the_roll_says(membership: RunningMembership) -> None:
    one, two, three = await membership.array_of("one.example.test", "two.example.test", "three.example.test")
    membership.authorities.away = True
    admin = (await membership.client()).membership
    begun = await admin.arrays.detach(two.name)
    uid = await uid_of(membership, three.name)

    def alter(tx: Transaction) -> None:
        found = tx.operations.get(begun.name.removeprefix("operations/"))
        assert found is not None
        arguments = {**found.arguments, "members": {**found.arguments["members"], uid: "member"}}
        statement = text("UPDATE operations SET arguments = :a WHERE operation_id = :id")
        values = {"a": json.dumps(arguments), "id": found.operation_id}
        tx._connection.execute(statement, values)  # type: ignore[attr-defined]

    await membership.write(alter)
    membership.authorities.away = False
    assert (await membership.until(begun.name, [one, three])).state is OperationState.SUCCEEDED
    assert three.certificate.removeprefix("certificates/") not in membership.authorities.revoked
    assert two.certificate.removeprefix("certificates/") in membership.authorities.revoked


async def test_nothing_is_destroyed_on_a_row_that_was_altered_a_moment_ago(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership
    membership.authorities.hold_reissue = True
    started = await admin.rotations.start(one.array, RotationKind.SCHEDULED)
    old = (await admin.arrays.get(one.array)).authority.removeprefix("authorities/")
    async with asyncio.timeout(20):
        while (await admin.rotations.get(started.name)).phase is not RotationPhase.ACTIVATED:
            for agent in (one, two):
                await agent.turn()
    statement = text("UPDATE rotations SET phase = 'distrusted', final_epoch = 0")
    await membership.write(lambda tx: tx._connection.execute(statement))
    for agent in (one, two):
        for _ in range(10):
            await agent.report()
    assert membership.authorities.known[old].state is CaState.ACTIVE
