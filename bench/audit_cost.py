#!/usr/bin/env python3
"""Measure what the audit log costs the commits of the ledger, on SQLite and PostgreSQL; print microseconds.

    python bench/audit_cost.py [--database postgresql] [--directory /dev/shm] [--groups 400]

Groups of so many requests with one made-up certificate each are committed in turn with and without their audit records, so
that whatever else the machine does falls on both. And the records of calls that commit nothing else (reads, refusals) are
committed in groups of so many. The time is that of one caller who waits for one commit after the other.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from committing import Committing, NoChain, audit_head, ledger_on, opened
from keyreeve.audit import record as records
from keyreeve_bench import disk
from keyreeve_bench.local_processes import machine
from keyreeve_bench.planes import DATABASES
from keyreeve_ca.storage.ledger_postgresql import PostgresqlLedger
from keyreeve_ca.storage.ledger_sqlite import SqliteLedger

SIZES = (1, 8, 32)


@dataclass
class Times:
    """Microseconds of one caller's commits."""

    taken: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.taken)


async def cost_in_groups(ledger: SqliteLedger | PostgresqlLedger, size: int, groups: int) -> dict[str, float]:
    """What the records add to the commit of a group."""
    committing, chain = Committing(ledger), ledger._chain  # noqa: SLF001 - to measure what it costs
    times = {True: Times(), False: Times()}
    for turn in range(groups * 2):
        recorded = turn % 2 == 0
        ledger._chain = chain if recorded else NoChain()  # type: ignore[assignment]  # noqa: SLF001
        times[recorded].taken.append(await committing.commit(size))
    ledger._chain = chain  # noqa: SLF001
    # Each from its neighbour: what else the machine does changes from minute to minute.
    added = statistics.median(a - b for a, b in zip(times[True].taken, times[False].taken, strict=True))
    return {
        "requests": size,
        "with_us": round(times[True].median),
        "without_us": round(times[False].median),
        "audit_us_per_group": round(added, 1),
        "audit_us_per_record": round(added / size, 1),
    }


async def cost_alone(write: Callable[[Sequence[bytes]], Awaitable[None]], size: int, groups: int) -> dict[str, float]:
    """What it costs to commit records of calls that commit nothing else."""
    times = Times()
    for _ in range(groups):
        some = [audit_head(os.urandom(16).hex()) + records.tail("OK") for _ in range(size)]
        began = time.perf_counter()
        await write(some)
        times.taken.append((time.perf_counter() - began) * 1e6)
    return {
        "records": size,
        "us_per_group": round(times.median, 1),
        "us_per_record": round(times.median / size, 1),
    }


async def measure(kind: str, directory: Path, groups: int) -> dict[str, Any]:
    with opened(kind, directory) as (reader, writer):
        ledger, store = await ledger_on(kind, reader, writer)
        await cost_in_groups(ledger, 8, 50)  # to warm up
        return {
            "signing": [await cost_in_groups(ledger, size, groups) for size in SIZES],
            "alone": [await cost_alone(store.append_audit, size, groups) for size in (*SIZES, 128)],
        }


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    asked.add_argument("--database", action="append", choices=DATABASES, help="both unless given")
    asked.add_argument("--directory", type=Path, help="where the database lies; /dev/shm leaves the disk out of it")
    asked.add_argument("--groups", type=int, default=400, help="of each kind and size")
    options = asked.parse_args()
    for kind in options.database or DATABASES:
        with tempfile.TemporaryDirectory(
            prefix="keyreeve-bench-", dir=options.directory, ignore_cleanup_errors=True
        ) as name:
            Path(name).chmod(0o711)  # PostgreSQL's own user has to reach its files
            facts = {"database": kind, **machine(), "disk": asdict(disk.measure(Path(name), 2.0))}
            found = asyncio.run(measure(kind, Path(name), options.groups))
            sys.stdout.write(json.dumps(facts | found, indent=1) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
