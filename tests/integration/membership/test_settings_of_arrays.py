"""Settings of arrays and servers, and the pacing of renewals, over real mutual TLS on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keyreeve import errors
from keyreeve.membership_values import RotationKind
from keyreeve.operation_values import OperationState
from keyreeve_membership.configuration.settings_list import PEER_SECURITY, REPORT_INTERVAL
from support.membership import RunningMembership, membership_settings, running_membership


async def test_an_array_wide_setting_reaches_every_agent(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    admin = (await membership.client()).membership.settings
    await admin.update([one.name], {REPORT_INTERVAL: "7"})
    assert {setting.name: setting.value for setting in await admin.get(two.name)} == {
        PEER_SECURITY: "1",
        REPORT_INTERVAL: "7",
    }
    assert (await two.report()).interval_seconds == 7
    [only] = await two.client.membership.settings.get(two.name, names=[REPORT_INTERVAL])
    assert only.value == "7"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"shade": "red"}, errors.SettingUnknown),
        ({REPORT_INTERVAL: "0"}, errors.SettingInvalid),
        ({REPORT_INTERVAL: "1e3"}, errors.SettingInvalid),
        ({PEER_SECURITY: "yes"}, errors.SettingInvalid),
        ({}, errors.FieldInvalid),
    ],
)
async def test_a_wrong_setting_is_refused(
    membership: RunningMembership, changed: dict[str, str], reason: type[errors.KeyreeveError]
) -> None:
    agent = await membership.agent("one.example.test")
    with pytest.raises(reason):
        await (await membership.client()).membership.settings.update([agent.name], changed)


async def test_peer_security_changes_only_on_a_stopped_server_that_stands_alone(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    alone = await membership.agent("alone.example.test")
    await alone.turn()
    admin = (await membership.client()).membership
    with pytest.raises(errors.NotStandalone):
        await admin.settings.update([two.name], {PEER_SECURITY: "0"})
    with pytest.raises(errors.ServerRunning):
        await admin.settings.update([alone.name], {PEER_SECURITY: "0"})
    alone.says["stopped"] = True
    await alone.report()
    await admin.settings.update([alone.name], {PEER_SECURITY: "0"})
    assert not (await alone.report()).peer_security
    with pytest.raises(errors.MemberStateWrong):
        await alone.renew()
    with pytest.raises(errors.PeerSecurityMismatch):
        await admin.arrays.join(one.name, alone.name)


async def test_the_primarys_agent_sets_and_a_secondarys_does_not(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    with pytest.raises(errors.AccessDenied):
        await two.client.membership.settings.update([two.name], {REPORT_INTERVAL: "7"})
    await one.client.membership.settings.update([one.name], {REPORT_INTERVAL: "7"})


async def test_a_setting_is_for_several_servers_or_for_the_whole_array_of_one(membership: RunningMembership) -> None:
    one, two = await membership.array_of("one.example.test", "two.example.test")
    alone = await membership.agent("alone.example.test")
    admin = (await membership.client()).membership.settings
    assert len(await admin.update([one.name, alone.name], {REPORT_INTERVAL: "7"})) == 2
    assert [(await agent.report()).interval_seconds for agent in (two, alone)] == [7, 7]
    await admin.update([two.name], {REPORT_INTERVAL: "9"}, whole_array=True)
    assert [(await agent.report()).interval_seconds for agent in (one, alone)] == [9, 7]
    with pytest.raises(errors.FieldInvalid):
        await admin.update([one.name, two.name], {REPORT_INTERVAL: "9"}, whole_array=True)
    one.says["stopped"] = True
    await one.report()
    with pytest.raises(errors.NotStandalone):
        await admin.update([one.name], {PEER_SECURITY: "0"}, whole_array=True)


async def test_a_renewal_beyond_the_budget_is_told_when_to_come_back(tmp_path: Path) -> None:
    settings = membership_settings(tmp_path, certificates_per_second=0.01)
    async with running_membership(tmp_path, settings) as membership:
        agent = await membership.agent("one.example.test")
        await agent.turn()  # its first certificate is the budget of 100 s
        agent.says["certificate_not_after"] = datetime.now(UTC) + timedelta(days=6)
        await agent.report()
        with pytest.raises(errors.RenewalPaced) as paced:
            await agent.renew()
        assert paced.value.retry_after is not None
        agent.says["certificate_not_after"] = datetime.now(UTC) + timedelta(hours=1)
        await agent.report()
        await agent.renew()


async def test_a_certificate_that_a_rotation_replaces_is_within_the_budget_too(tmp_path: Path) -> None:
    settings = membership_settings(tmp_path, certificates_per_second=0.01)
    async with running_membership(tmp_path, settings) as membership:
        agent = await membership.agent("one.example.test")
        await agent.turn()  # its first certificate is the budget of 100 s
        agent.says["certificate_not_after"] = datetime.now(UTC) + timedelta(days=6)
        rotations = (await membership.client()).membership.rotations
        started = await rotations.start(agent.array, RotationKind.SCHEDULED)
        async with asyncio.timeout(20):
            while (await agent.report()).authority == agent.authority:
                await agent.load()
        with pytest.raises(errors.RenewalPaced) as paced:
            await agent.renew()
        assert paced.value.retry_after is not None
        [member] = (await rotations.get(started.name)).members
        assert member.waiting == f"use a certificate of {started.new_authority.removeprefix('authorities/')}"
        agent.says["certificate_not_after"] = datetime.now(UTC) + timedelta(hours=1)
        assert (await membership.until(started.operation, [agent])).state is OperationState.SUCCEEDED


async def test_the_service_says_when_to_renew(membership: RunningMembership) -> None:
    agent = await membership.agent("one.example.test")
    assert (await agent.report()).renew_at is None
    end = datetime.now(UTC) + timedelta(days=7)
    agent.says["certificate_not_after"] = end
    told = await agent.report()
    assert told.renew_at is not None
    assert timedelta(days=3) < told.renew_at - datetime.now(UTC) < timedelta(days=5)
    assert (await agent.report()).renew_at == told.renew_at
