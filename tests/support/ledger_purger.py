"""A process that deletes expired certificates until it is killed; run as a program by the test that kills it.

Arguments: kind and location of the database, the clock, and failpoints to arm. It says when it has ended a pass.
"""

import asyncio
import sys
from pathlib import Path

from keyreeve_ca.store.retention import Retention
from keyreeve_chassis.database.locking import FileLock
from keyreeve_chassis.processes import failpoints
from support.databases import CaDatabase


async def purge(kind: str, location: str, now: str, arm: str) -> None:
    if kind == "sqlite":
        FileLock(Path(location)).acquire()
    database = CaDatabase("sqlite" if kind == "sqlite" else "postgresql", location, lambda: int(now))
    writer = database.database()
    retention = Retention(database.ledger(writer), database.store(writer), 2, 30, database.now)
    if arm:
        failpoints.arm({failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: arm})
    await retention.run()
    database.close()


if __name__ == "__main__":
    asyncio.run(purge(*sys.argv[1:]))
