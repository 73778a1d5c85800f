"""A process that commits groups to the ledger until it is killed; run as a program by the tests that kill it.

Every line on standard input is a round: a process is forked for it (forked, since importing anew would take most of the
time), which keeps a log that it fsyncs: what it is about to commit, and what was acknowledged.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from keyreeve_ca.ledger.postgresql import PostgresqlLedger
from keyreeve_ca.ledger.sqlite import SqliteLedger
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.engine import postgresql, sqlite_writer
from keyreeve_chassis.database.locking import FileLock
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.processes import failpoints
from support.databases import TEST_SEALS
from support.ledger_entries import Block, block_request, request_id, serials


async def commit_until_killed(kind: str, location: str, log_path: str, worker_id: str, arm: str) -> None:
    """Lease a block and commit groups of 3 requests with 2 certificates each, as fast as it goes."""
    ledger: SqliteLedger | PostgresqlLedger
    if kind == "sqlite":
        FileLock(Path(location)).acquire()
        ledger = SqliteLedger(
            Database(sqlite_writer(Path(location)), service=SCHEMA.service, threads=1), seals=TEST_SEALS, now=_now
        )
        await ledger.void_orphans()
    else:
        engine = postgresql(location, schema=SCHEMA.name, application_name=worker_id, connections=1)
        ledger = PostgresqlLedger(Database(engine, service=SCHEMA.service, threads=1), seals=TEST_SEALS)
        await ledger.register_worker(worker_id, 60)
    block = await Block.leased(ledger, block_request(worker_id=worker_id))
    if arm:
        failpoints.arm({failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: arm})
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    while True:
        claims = [
            block.claim(block.certificate(), block.certificate(), identifier=f"{worker_id}-{request_id()}")
            for _ in range(3)
        ]
        group = block.group(*claims)
        _write(log, {"intent": group.group_id.hex(), "serials": [s.hex() for s in serials(claims)]})
        await ledger.commit(group)
        _write(log, {"acknowledged": group.group_id.hex()})
        print("acknowledged", flush=True)


def _now() -> int:
    return int(time.time())


def _write(log: int, entry: dict[str, Any]) -> None:
    os.write(log, json.dumps(entry).encode() + b"\n")
    os.fsync(log)


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            print("forked", os.getpid(), flush=True)  # here, since the parent might come to it too late
            asyncio.run(commit_until_killed(**json.loads(line)))
            os._exit(0)
        print("ended", os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main()
