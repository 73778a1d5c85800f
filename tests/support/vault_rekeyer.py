"""`python -m support.vault_rekeyer DIRECTORY URL`: rotates an array's key to the end, unless a failpoint kills it."""

import asyncio
import os
import sys
from pathlib import Path

from keyreeve_chassis.processes import failpoints
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_credentials.app import STORAGE, CredentialsContext, jobs
from keyreeve_credentials.keys.ports import KEYS, KekState
from keyreeve_credentials.keys.service import running_rotation
from support.vault import vault_settings


async def rotate(directory: Path, url: str) -> None:
    """Begin a rotation, or go on with one that runs, and wait until its old key is destroyed."""
    settings = vault_settings(directory, url, vault={"backup_days": 0, "rekey_rows_per_second": 1e6})
    async with STORAGE.open(settings, now=system_clock, process=f"rekeyer-{os.getpid()}") as storage:
        context = storage.context
        assert isinstance(context, CredentialsContext)
        running = [asyncio.ensure_future(job) for job in (*storage.jobs, *jobs(context))]
        try:
            if await context.store.read(lambda tx: running_rotation(tx, "sales")) is None:
                kek_id = context.keys.new_id()
                await asyncio.to_thread(context.keys.root.create, "sales", kek_id)
                await context.store.write(lambda tx: context.keys.begin_rotation(tx, "sales", kek_id, "test"))
            wait = context.topics.follower(KEYS)
            while await context.store.read(
                lambda tx: any(kek.state in {KekState.DRAINING, KekState.DESTROYING} for kek in tx.keks.all())
            ):
                await wait(1.0)
        finally:
            for job in running:
                job.cancel()
            await asyncio.gather(*running, return_exceptions=True)


if __name__ == "__main__":
    failpoints.arm(os.environ)
    asyncio.run(rotate(Path(sys.argv[1]), sys.argv[2]))
