"""`python -m keyreeve_bench.member_fill`: put synthetic members into an array, to measure a large one.

The array exists and has one member. The service must not run meanwhile: each member would have to join by itself.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from keyreeve.cli.exit_codes import print_error
from keyreeve_bench.member_names import ARRAY, RELEASE, address_of, name_of
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.loading import load
from keyreeve_membership.app import STORAGE, MembershipContext
from keyreeve_membership.changes.progress import publish_members
from keyreeve_membership.roll.ports import Member, MemberState
from keyreeve_membership.roll.service import Roll
from keyreeve_membership.settings import MembershipSettings

ACTOR = "bench"
AT_ONCE = 200


async def fill(config: Path, count: int) -> None:
    """Make an array of one an array of `count`. Raises `StartRefused`."""
    settings = load(MembershipSettings, config, "KEYREEVE_MEMBERSHIP_", environment={}).settings
    async with STORAGE.open(settings, now=system_clock, process="bench-fill") as opened:
        for job in opened.jobs:
            job.close()
        context = cast("MembershipContext", opened.context)
        roll = Roll(context.now)
        for first in range(1, count, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, count))
            await context.store.write(lambda tx, numbers=numbers: _put(roll, tx, numbers))  # type: ignore[misc]
        await context.store.write(_end)


def _put(roll: Roll, tx: Any, numbers: Sequence[int]) -> None:  # noqa: ANN401 - the service's transaction
    for number in numbers:
        member = Member(
            roll.new_uid(),
            name_of(number),
            ARRAY,
            "",
            MemberState.MEMBER,
            primary=False,
            address=address_of(number),
            external_names=(),
            release=RELEASE,
            created_at=roll.now(),
        )
        tx.roll.put_member(member, "joined", ACTOR)


def _end(tx: Any) -> None:  # noqa: ANN401 - the service's transaction
    primary = tx.roll.member(name_of(0))
    tx.roll.put_member(replace(primary, state=MemberState.MEMBER), "joined by another", ACTOR)
    publish_members(tx, system_clock())


def main(arguments: Sequence[str]) -> int:
    """Fill the array and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_bench.member_fill", description="Fill an array.")
    parser.add_argument("--members", type=int, required=True)
    parser.add_argument("--config", type=Path, required=True, help="settings file of the membership service")
    given = parser.parse_args(arguments)
    try:
        asyncio.run(fill(given.config, given.members))
    except StartRefused as refused:
        print_error(f"the array cannot be filled: {refused}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
