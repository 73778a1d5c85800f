#!/usr/bin/env python3
"""Revoke 100,000 of 1,000,000 certificates by predicate while certificates go on being committed; print what it took.

    python bench/revoke_many.py [--certificates 1000000] [--revoke 100000] [--directory /var/tmp]

It works on a SQLite ledger of its own with made-up certificates: what is measured is the database's part, which is what
the two compete for. Latency is that of committing a group of one certificate, asked for 100 times a second.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from sqlalchemy import insert

from keyreeve.identity import Caller, Role, SpiffeId
from keyreeve_ca.bulk_revocation import BulkRevocation, Predicate
from keyreeve_ca.keystore import SealedKey
from keyreeve_ca.ledger import BLOCK_SIZE, BlockRequest, CommitGroup, IssuedCertificate, RequestClaim
from keyreeve_ca.operations import OperationState
from keyreeve_ca.registry import Authority, AuthorityKind, AuthorityState, PlaneState, Transaction
from keyreeve_ca.revocations import RevocationReason, Shard
from keyreeve_ca.rules.profile import KeyType, Tree
from keyreeve_ca.rules.profile_document import profile_from_canonical
from keyreeve_ca.rules.serials import serial
from keyreeve_ca.storage.ledger_sqlite import SqliteLedger
from keyreeve_ca.storage.registry_sql import SqlStore
from keyreeve_ca.storage.schema import SCHEMA
from keyreeve_ca.storage.tables import certificates, serial_blocks
from keyreeve_chassis.database.engine import sqlite_reader, sqlite_writer
from keyreeve_chassis.database.migrating import upgrade
from keyreeve_chassis.database.transactions import Database

SEED = b"s" * 32
NOW = int(time.time())
ADMIN = Caller(SpiffeId.parse("spiffe://bench.test/operators/admin/ann"), Role.ADMIN, 1)
UNLUCKY, OTHERS = "spiffe://bench.test/workloads/unlucky/api", "spiffe://bench.test/workloads/others/api"
BATCH = 20_000


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


def fill(database: Database, count: int, revoke: int) -> None:
    """The certificates of the past, in closed blocks; every so-many-th was asked for by the unlucky workload."""
    step, made = count // revoke, 0
    with database.engine.begin() as connection:
        for block in range(1, count // BLOCK_SIZE + 2):
            size = min(BLOCK_SIZE, count - made)
            rows = [
                {
                    "serial": serial(block, SEED, n),
                    "authority_id": "estate-1",
                    "profile_name": "server",
                    "profile_version": 1,
                    "caller": UNLUCKY if (made + n) % step == 0 else OTHERS,
                    "request_id": "",
                    "identity": f"host-{made + n}.bench.test",
                    "spki_sha256": b"k" * 32,
                    "not_before": NOW - 300,
                    "not_after": NOW + 30 * 86_400,
                    "issued_at": NOW,
                    "der": b"d" * 700,
                    "csr": b"c" * 300,
                    "wished_names": "[]",
                    "wished_seconds": None,
                    "renews": None,
                    "block_number": block,
                    "identity_crc": made + n,
                }
                for n in range(size)
            ]
            if rows:
                connection.execute(insert(certificates), rows)
            connection.execute(
                insert(serial_blocks).values(
                    block_id=block,
                    incarnation=1,
                    authority_id="estate-1",
                    worker_id="past",
                    profile_hashes=b"",
                    seed_id="",
                    sealed_seed=b"",
                    size=BLOCK_SIZE,
                    crl_shard=block // 5,
                    number=block,
                    state="closed",
                    committed=size - 1,
                    first_not_after=NOW + 30 * 86_400,
                    last_not_after=NOW + 30 * 86_400,
                    leased_at=NOW,
                )
            )
            made += size


async def commit_on(ledger: SqliteLedger, seconds: list[float], stop: asyncio.Event) -> None:
    """Commit a certificate 100 times a second and note how long each took."""
    lease, counter, every = None, BLOCK_SIZE, 0.01
    while not stop.is_set():
        began = time.perf_counter()
        if counter >= BLOCK_SIZE:
            lease = await ledger.lease_block(BlockRequest("estate-1", "bench", frozenset(), os.urandom(8).hex(), b""))
            counter = 0
        assert lease is not None
        entry = IssuedCertificate(
            serial=serial(lease.block_id, SEED, counter),
            authority_id="estate-1",
            profile_name="server",
            profile_version=1,
            caller=OTHERS,
            request_id="",
            identity="new.bench.test",
            spki_sha256=os.urandom(32),
            not_before=NOW - 300,
            not_after=NOW + 86_400,
            issued_at=NOW,
            der=b"d" * 700,
            csr=b"c" * 300,
            wished_names="[]",
            wished_seconds=None,
        )
        claim = RequestClaim(OTHERS, "bench", os.urandom(16).hex(), b"", (entry,))
        group = CommitGroup(
            os.urandom(16), "bench", lease.block_id, lease.incarnation, "estate-1", frozenset(), counter, (claim,)
        )
        sent = time.perf_counter()
        await ledger.commit(group)
        seconds.append(time.perf_counter() - sent)
        counter += 1
        await asyncio.sleep(max(0.0, every - (time.perf_counter() - began)))


def told(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "commits": len(ordered),
        "p50_ms": round(1000 * statistics.median(ordered), 2),
        "p99_ms": round(1000 * ordered[int(len(ordered) * 0.99)], 2),
        "max_ms": round(1000 * ordered[-1], 2),
    }


def entries(shard: Shard, tx: Transaction) -> list[tuple[bytes, int, str]]:
    return tx.revocations.listed(shard, expiring_from=NOW)


async def main() -> None:
    asked = argparse.ArgumentParser()
    asked.add_argument("--certificates", type=int, default=1_000_000)
    asked.add_argument("--revoke", type=int, default=100_000)
    asked.add_argument("--directory", type=Path, default=None)
    options = asked.parse_args()
    directory = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        found = await measure(directory / "ca.db", options.certificates, options.revoke)
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    finally:
        shutil.rmtree(directory)


async def measure(path: Path, count: int, revoke: int) -> dict[str, object]:
    writer = Database(sqlite_writer(path), service="ca", threads=1)
    upgrade(writer.engine, SCHEMA)
    reader = Database(sqlite_reader(path, connections=2), service="ca", threads=2)
    store = SqlStore(reader=reader, writer=writer, read_profile=profile_from_canonical, now=lambda: NOW)
    await store.write(first)
    began = time.perf_counter()
    await writer.run(lambda: fill(writer, count, revoke))
    filled = time.perf_counter() - began
    await writer.write(lambda c: c.exec_driver_sql("UPDATE plane SET last_block_id = 1000000, block_count = 1000000"))
    ledger = SqliteLedger(writer, now=lambda: NOW, writer="bench")
    before: list[float] = []
    during: list[float] = []
    stop = asyncio.Event()
    commits = asyncio.create_task(commit_on(ledger, before, stop))
    await asyncio.sleep(10)
    stop.set()
    await commits
    bulk = BulkRevocation(store, lambda: NOW)
    operation = await store.write(
        lambda tx: bulk.begin(tx, ADMIN, Predicate(caller=UNLUCKY), RevocationReason.KEY_COMPROMISE)
    )
    stop = asyncio.Event()
    commits = asyncio.create_task(commit_on(ledger, during, stop))
    began = time.perf_counter()
    running = asyncio.create_task(bulk.run(0.25))
    while True:
        await asyncio.sleep(0.25)
        found = await store.read(lambda tx: tx.operations.get(operation.operation_id))
        if found is None or found.state is not OperationState.RUNNING:
            break
    took = time.perf_counter() - began
    running.cancel()
    stop.set()
    await commits
    shards = await store.read(lambda tx: tx.revocations.changed_shards(0))
    result = {
        "certificates": count,
        "revoked": 0 if found is None else found.done,
        "filling_seconds": round(filled, 1),
        "revoking_seconds": round(took, 1),
        "commit_before": told(before),
        "commit_during": told(during),
        "lists_changed": len(shards),
        "entries_on_the_longest_list": max([len(await store.read(partial(entries, shard))) for shard in shards]),
    }
    for database in (reader, writer):
        database.close()
    return result


if __name__ == "__main__":
    asyncio.run(main())
