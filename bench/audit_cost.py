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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keyreeve.audit import record as records
from keyreeve_bench import disk, postgresql
from keyreeve_bench.local_processes import machine
from keyreeve_bench.standard import DATABASES
from keyreeve_ca.keystore import SealedKey
from keyreeve_ca.ledger import BLOCK_SIZE, BlockLease, BlockRequest, CommitGroup, IssuedCertificate, RequestClaim
from keyreeve_ca.registry import Authority, AuthorityKind, AuthorityState, PlaneState, Transaction
from keyreeve_ca.rules.profile import KeyType, Tree
from keyreeve_ca.rules.profile_document import profile_from_canonical
from keyreeve_ca.rules.serials import serial
from keyreeve_ca.storage.ledger_postgresql import PostgresqlLedger
from keyreeve_ca.storage.ledger_sqlite import SqliteLedger
from keyreeve_ca.storage.registry_sql import SqlStore
from keyreeve_ca.storage.schema import SCHEMA
from keyreeve_chassis.audit.chains import ChainHead
from keyreeve_chassis.database import engine
from keyreeve_chassis.database.migrating import upgrade
from keyreeve_chassis.database.transactions import Database

SEED = b"s" * 32
NOW = int(time.time())
CALLER = "spiffe://bench.test/workloads/others/api"
METHOD = "/keyreeve.ca.v1.CertificateService/SignCertificate"
SIZES = (1, 8, 32)
WORKER = "bench"


class NoChain:
    """In place of a `ChainWriter`: nothing is recorded."""

    lock_statement: tuple[str, tuple[object, ...]] = ("SELECT 1", ())

    def head_from(self, *_: object) -> ChainHead:
        return ChainHead(0, b"", 0)

    def append(self, *_: object) -> None:
        """Nothing."""


def first(tx: Transaction) -> None:
    tx.bootstrap_plane(PlaneState("bench.test", 1, 1, b"check", NOW))
    tx.add_key(SealedKey("key", KeyType.P256, b"spki", b"sealed"))
    tx.add_authority(
        Authority(
            authority_id="estate-1",
            tree=Tree.ESTATE,
            kind=AuthorityKind.INTERMEDIATE,
            owner="",
            state=AuthorityState.ACTIVE,
            issuer_id="estate-1",
            key_id="key",
            key_type=KeyType.P256,
            certificate_der=b"",
            spki_sha256=b"",
            not_before=NOW - 100,
            not_after=NOW + 10**8,
            created_at=NOW,
        )
    )


def audit_head(request_id: str) -> bytes:
    prefix = records.prefix(METHOD, CALLER, "7a" * 16, subject="", peer="ipv4:127.0.0.1:40000", tls="TLSv1.3")
    return records.head(prefix, NOW * 1000, request_id, request_id, (("item.profile", "profiles/server"),))


@dataclass
class Committing:
    """Makes groups and commits them, of one block after the other."""

    ledger: SqliteLedger | PostgresqlLedger
    lease: BlockLease | None = None
    counter: int = BLOCK_SIZE

    async def commit(self, size: int) -> float:
        """Commit a group of so many requests; the microseconds that it took."""
        if self.counter + size > BLOCK_SIZE:
            request = BlockRequest("estate-1", WORKER, frozenset(), os.urandom(8).hex(), b"")
            self.lease, self.counter = await self.ledger.lease_block(request), 0
        assert self.lease is not None
        claims = [self._claim(self.lease, self.counter + n) for n in range(size)]
        last = self.counter + size - 1
        self.counter += size
        group = CommitGroup(
            os.urandom(16),
            WORKER,
            self.lease.block_id,
            self.lease.incarnation,
            "estate-1",
            frozenset(),
            last,
            tuple(claims),
        )
        began = time.perf_counter()
        await self.ledger.commit(group)
        return (time.perf_counter() - began) * 1e6

    def _claim(self, lease: BlockLease, counter: int) -> RequestClaim:
        request_id = os.urandom(16).hex()
        entry = IssuedCertificate(
            serial=serial(lease.block_id, SEED, counter),
            authority_id="estate-1",
            profile_name="server",
            profile_version=1,
            caller=CALLER,
            request_id=request_id,
            identity="new.bench.test",
            spki_sha256=os.urandom(32),
            not_before=NOW - 300,
            not_after=NOW + 86_400,
            issued_at=NOW,
            der=os.urandom(700),
            csr=os.urandom(300),
            wished_names="[]",
            wished_seconds=None,
        )
        return RequestClaim(CALLER, METHOD, request_id, b"", (entry,), audit=audit_head(request_id))


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


@contextmanager
def opened(kind: str, directory: Path) -> Iterator[tuple[Database, Database]]:
    """A new database of this kind: for reading and for writing."""
    if kind == "sqlite":
        writer = Database(engine.sqlite_writer(directory / "ca.db"), service="ca", threads=1)
        upgrade(writer.engine, SCHEMA)
        reader = Database(engine.sqlite_reader(directory / "ca.db", connections=2), service="ca", threads=2)
        yield reader, writer
        reader.close()
        writer.close()
        return
    place = directory / "postgresql"
    place.mkdir()
    with postgresql.server(place) as url:
        made = engine.postgresql(url, schema=SCHEMA.name, application_name="bench", connections=4)
        upgrade(made, SCHEMA)
        both = Database(made, service="ca", threads=4)
        yield both, both
        both.close()


async def measure(kind: str, directory: Path, groups: int) -> dict[str, Any]:
    with opened(kind, directory) as (reader, writer):
        store = SqlStore(reader=reader, writer=writer, read_profile=profile_from_canonical, now=lambda: NOW)
        await store.write(first)
        ledger: SqliteLedger | PostgresqlLedger
        if kind == "sqlite":
            ledger = SqliteLedger(writer, now=lambda: NOW, writer=WORKER)
        else:
            ledger = PostgresqlLedger(writer, WORKER)
            await ledger.register_worker(WORKER, 3_600)
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
