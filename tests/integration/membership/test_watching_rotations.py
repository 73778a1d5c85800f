"""What `keyreeve rotation watch` draws during a rotation: phases, whom it waits for and why, the time that is left."""

import asyncio
import re
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

from keyreeve.cli.arrays.rotation_commands import drawing
from keyreeve.membership_values import RotationKind, RotationPhase
from support.membership import membership_settings, running_membership
from support.waiting import moment


async def test_each_phase_is_drawn_with_whom_it_waits_for_and_why_and_the_time_left(tmp_path: Path) -> None:
    async with running_membership(tmp_path, membership_settings(tmp_path)) as membership:
        agent = await membership.agent("one.example.test")
        await agent.turn()
        rotations = (await membership.client()).membership.rotations
        started = await rotations.start(agent.array, RotationKind.EMERGENCY, phase_time=timedelta(minutes=30))
        async with asyncio.timeout(20):
            while (found := await rotations.get(started.name)).phase is not RotationPhase.DISTRIBUTED or not (
                found.members[0].waiting_since
            ):
                await moment()
        async with aclosing(rotations.watch(started.name)) as watch:
            phases, waits = drawing(await anext(watch))
            ending = asyncio.create_task(membership.until(started.operation, [agent]))
            later = [drawing(state) async for state in watch]
            await ending
    assert phases.startswith("● prepared → ● distributed → ○ activated → ○ reissued → ○ distrusted  (0 of 1 ready, ")
    assert re.search(r", \d{4}-\d\d-\d\dT\S+Z \(in \d+ min.*\)\)$", phases), phases
    assert re.fullmatch(r"    one\.example\.test has to load epoch 2 \(since \S+Z\)", waits)
    assert later[-1][0].startswith("● prepared → ● distributed → ● activated → ● reissued → ● distrusted")
