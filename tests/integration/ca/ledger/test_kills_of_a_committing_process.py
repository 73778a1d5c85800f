"""kill -9 of a committing process, 20 times on each database: everything acknowledged is stored once."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import text

from keyreeve_ca.certificates.serials import block_of
from support.databases import CaBench, CaDatabase

pytestmark = pytest.mark.faults

KILLS = 20


class Writer:
    """The program `support.ledger_writer`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.ledger_writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )

    def run_and_kill(self, after: int | None, **round_: str) -> None:
        """Start a process and kill it after so many acknowledgements; None: it kills itself at a failpoint."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(round_) + "\n")
        self._process.stdin.flush()
        word, number = self._process.stdout.readline().split()
        assert word == "forked"
        for seen, line in enumerate(self._process.stdout, 1):
            if line.startswith("ended"):
                assert int(line.split()[1]) == signal.SIGKILL
                return
            if seen == after:
                os.kill(int(number), signal.SIGKILL)
        raise AssertionError("the program ended by itself")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.close()


@dataclass
class Log:
    """What the killed processes wrote down."""

    intents: dict[bytes, list[bytes]] = field(default_factory=dict)
    acknowledged: set[bytes] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> "Log":
        log = cls()
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if "intent" in entry:
                log.intents[bytes.fromhex(entry["intent"])] = [bytes.fromhex(s) for s in entry["serials"]]
            else:
                log.acknowledged.add(bytes.fromhex(entry["acknowledged"]))
        return log


async def test_what_was_acknowledged_before_a_kill_is_in_the_ledger(
    ca_database: CaDatabase, writer: Writer, tmp_path: Path
) -> None:
    bench = await CaBench.on(ca_database)
    if ca_database.is_sqlite:
        ca_database.close()  # the file has one coordinator at a time
    chance = random.Random(20)
    for n in range(KILLS):
        at = chance.randint(1, 12)
        arm = {0: f"ca.commit.before=crash@{at}", 1: f"ca.commit.after=crash@{at}"}.get(n % 4, "")
        writer.run_and_kill(
            None if arm else at,
            kind=ca_database.kind,
            location=ca_database.location,
            log_path=str(tmp_path / "log"),
            worker_id=f"killed-{n}",
            arm=arm,
        )
    if ca_database.is_sqlite:
        bench = CaBench(ca_database)
    log = Log.read(tmp_path / "log")
    # First, since it waits for a commit that PostgreSQL is still finishing for a client that is gone.
    found = {group_id: await bench.ledger.find_group(group_id) is not None for group_id in log.intents}
    stored = await bench.stored()
    assert len(log.acknowledged) > KILLS
    assert len(stored) == len(set(stored))
    assert set(stored) <= {s for serials in log.intents.values() for s in serials}
    for group_id, serials in log.intents.items():
        present = [s in stored for s in serials]
        assert all(present) or (not any(present) and group_id not in log.acknowledged)
        assert found[group_id] == all(present)
    blocks = await bench.writer.read(lambda c: set(c.scalars(text("SELECT block_id FROM serial_blocks"))))
    assert {block_of(s) for s in stored} <= blocks
