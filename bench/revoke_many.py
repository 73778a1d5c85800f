#!/usr/bin/env python3
"""Revoke 100,000 of 1,000,000 certificates by predicate while certificates go on being signed; print what it took.

    python bench/revoke_many.py [--certificates 1000000] [--revoke 100000] [--database sqlite] [--rate 100]

It makes a control plane of its own in a temporary directory (`make up`, with two workers), fills its ledger with made-up
certificates, asks for one certificate after the other over RPC, and revokes by `RevokeCertificates`. Calls are due at fixed
moments and latency counts from then, so a stall is charged to every call that it held up. It goes in rounds, each a time
of signing alone and then the revocation of a part: what else the machine does falls on both. `--certificates 20000
--revoke 2000 --seconds 3 --rounds 1` is over in less than a minute.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, insert, select, update

from keyreeve import Context, Name, aio, make_csr, make_key
from keyreeve.cli.home import Home
from keyreeve.cli.starting import bring_up, take_down
from keyreeve.operation_values import OperationState
from keyreeve.values import RevocationReason
from keyreeve_bench import disk
from keyreeve_bench.local_processes import machine
from keyreeve_bench.planes import DATABASES, control_plane, database_url
from keyreeve_ca.ledger import BLOCK_SIZE, BLOCKS_PER_CRL_SHARD
from keyreeve_ca.rules.serials import serial
from keyreeve_ca.storage.revocation_tables import revocation_lists
from keyreeve_ca.storage.schema import SCHEMA
from keyreeve_ca.storage.tables import authorities, certificates, plane, serial_blocks
from keyreeve_chassis.database.engine import postgresql, sqlite_reader, sqlite_writer

ISSUER = "estate-issuing-1"
OTHERS = "spiffe://bench.localhost/workloads/others"
SEED = b"s" * 32
DAY = 86_400
LOOK_SECONDS = 0.25


# --- A past that never was ----------------------------------------------------------------------------------------------


def fill(engine: Engine, count: int, revoke: int, unlucky: Sequence[str]) -> None:
    """Certificates in closed blocks; every so-many-th was asked for by one of the unlucky workloads in turn."""
    now, step, made, block = int(time.time()), count // revoke, 0, 0
    with engine.begin() as connection:
        while made < count:
            size = min(BLOCK_SIZE, count - made)
            rows = [
                {
                    "serial": serial(block + 1, SEED, n),
                    "authority_id": ISSUER,
                    "profile_name": "server",
                    "profile_version": 1,
                    "caller": unlucky[(made + n) // step % len(unlucky)] if (made + n) % step == 0 else OTHERS,
                    "request_id": "",
                    "identity": f"host-{made + n}.bench.test",
                    "spki_sha256": b"k" * 32,
                    "not_before": now - 300,
                    "not_after": now + 30 * DAY,
                    "issued_at": now,
                    "der": os.urandom(700),
                    "csr": os.urandom(300),
                    "wished_names": "[]",
                    "wished_seconds": None,
                    "renews": None,
                    "block_number": 1_000 + block,
                    "identity_crc": made + n,
                }
                for n in range(size)
            ]
            connection.execute(insert(certificates), rows)
            connection.execute(
                insert(serial_blocks).values(
                    block_id=block + 1,
                    incarnation=1,
                    authority_id=ISSUER,
                    worker_id="past",
                    profile_hashes=b"",
                    seed_id="",
                    sealed_seed=b"",
                    size=BLOCK_SIZE,
                    crl_shard=block // BLOCKS_PER_CRL_SHARD,
                    number=1_000 + block,
                    state="closed",
                    committed=size - 1,
                    first_not_after=now + 30 * DAY,
                    last_not_after=now + 30 * DAY,
                    leased_at=now,
                )
            )
            made, block = made + size, block + 1
        connection.execute(update(authorities).where(authorities.c.authority_id == ISSUER).values(block_count=block))
        connection.execute(update(plane).values(block_count=1_000 + block))
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


def open_database(home: Home, *, to_write: bool) -> Engine:
    """The database; while the service runs an SQLite file has another writer."""
    url = database_url(home)
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        return sqlite_writer(path) if to_write else sqlite_reader(path, connections=1)
    return postgresql(url, schema=SCHEMA.name, application_name="bench", connections=1, statement_timeout_ms=3_600_000)


# --- Signing meanwhile --------------------------------------------------------------------------------------------------


async def sign_on(
    client: aio.Client, rate: float, seconds: list[float], failed: list[str], stop: asyncio.Event
) -> None:
    """Ask for a certificate so many times a second, and note how long each took from the moment at which it was due."""
    csr, loop = make_csr(make_key(), [Name.dns("new.bench.test")]), asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    async def sign(due: float) -> None:
        try:
            await client.certificates.sign("server", csr)
        except Exception as failure:  # noqa: BLE001 - counted, whatever it is
            failed.append(repr(failure))
        else:
            seconds.append(loop.time() - due)

    due = loop.time()
    while not stop.is_set():
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        task = asyncio.create_task(sign(due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way)


async def sign_for(client: aio.Client, rate: float, seconds: list[float], failed: list[str], how_long: float) -> None:
    """`sign_on` for so many seconds."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(how_long, stop.set)
    await sign_on(client, rate, seconds, failed, stop)


def told(windows: Sequence[list[float]]) -> dict[str, float]:
    """The percentiles; those of the tail are the medians of the rounds, since any other work makes one round useless."""
    every = sorted(second for window in windows for second in window)
    tails = [sorted(window)[int(len(window) * 0.99)] for window in windows]
    return {
        "calls": len(every),
        "p50_ms": round(1000 * statistics.median(every), 2),
        "p99_ms": round(1000 * statistics.median(tails), 2),
        "p99_of_all_ms": round(1000 * every[int(len(every) * 0.99)], 2),
        "max_ms": round(1000 * every[-1], 2),
    }


async def measure(context: Context, unlucky: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Sign for a while, then sign and revoke; again and again."""
    alone: list[list[float]] = []
    meanwhile: list[list[float]] = []
    failed: list[str] = []
    revoked, took = 0, 0.0
    async with aio.Client(context, coalesce=False) as client:
        await sign_for(client, options.rate, [], failed, min(3.0, options.seconds))
        for requester in unlucky:
            alone.append([])
            await sign_for(client, options.rate, alone[-1], failed, options.seconds)
            meanwhile.append([])
            stop = asyncio.Event()
            signing = asyncio.create_task(sign_on(client, options.rate, meanwhile[-1], failed, stop))
            began = time.monotonic()
            operation = await client.certificates.revoke_many(RevocationReason.KEY_COMPROMISE, requester=requester)
            while operation.state is OperationState.RUNNING:
                await asyncio.sleep(LOOK_SECONDS)
                operation = await client.operations.get(operation.name)
            took += time.monotonic() - began
            revoked += operation.done
            stop.set()
            await signing
    before, during = told(alone), told(meanwhile)
    return {
        "revoked": revoked,
        "rounds": len(unlucky),
        "revoking_seconds": round(took, 1),
        "alone": before,
        "meanwhile": during,
        "p99_ratio": round(during["p99_ms"] / before["p99_ms"], 2),
        "failed_calls": failed[:5],
    }


def lists_of(engine: Engine) -> dict[str, int]:
    """The lists of the revoked, when all have been made."""
    lists = revocation_lists.c
    with engine.connect() as connection:
        row = connection.execute(
            select(
                func.sum(lists.entries).label("entries"),
                func.count().label("lists"),
                func.max(lists.entries).label("most"),
                func.max(func.length(lists.der)).label("bytes"),
            ).where(lists.authority_id == ISSUER, lists.entries > 0)
        ).one()
    return {
        "entries": row.entries or 0,
        "lists": row.lists,
        "entries_of_the_longest": row.most or 0,
        "bytes_of_the_longest": row.bytes or 0,
    }


def run(home: Home, options: argparse.Namespace) -> dict[str, Any]:
    unlucky = [f"spiffe://bench.localhost/workloads/unlucky-{n}" for n in range(options.rounds)]
    # The made-up certificates cannot be linted.
    os.environ["KEYREEVE_CA_LINT__SAMPLE_RATE"] = "0"
    take_down(home)
    began = time.monotonic()
    engine = open_database(home, to_write=True)
    fill(engine, options.certificates, options.revoke, unlucky)
    engine.dispose()
    filled = time.monotonic() - began
    bring_up(home, trust_domain="bench.localhost", first_port=0, tell=lambda _: None)
    result = asyncio.run(measure(Context.load(home.context), unlucky, options))
    engine, until = open_database(home, to_write=False), time.monotonic() + 60
    while (lists := lists_of(engine))["entries"] < result["revoked"] and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    engine.dispose()
    return {"certificates": options.certificates, "filling_seconds": round(filled, 1), **result, **lists}


def main() -> None:
    asked = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    asked.add_argument("--certificates", type=int, default=1_000_000)
    asked.add_argument("--revoke", type=int, default=100_000)
    asked.add_argument("--database", action="append", choices=DATABASES, help="both unless given")
    asked.add_argument("--directory", type=Path, help="where the control plane and its database lie")
    asked.add_argument("--rate", type=float, default=100.0, help="certificates asked for in a second")
    asked.add_argument("--seconds", type=float, default=10.0, help="how long to sign alone in each round")
    asked.add_argument("--rounds", type=int, default=10)
    options = asked.parse_args()
    for database in options.database or DATABASES:
        with tempfile.TemporaryDirectory(
            prefix="keyreeve-bench-", dir=options.directory, ignore_cleanup_errors=True
        ) as name:
            Path(name).chmod(0o711)  # PostgreSQL's own user has to reach its files
            facts = {"database": database, **machine(), "disk": asdict(disk.measure(Path(name), 2.0))}
            with control_plane(Path(name), database) as home:
                sys.stdout.write(json.dumps(facts | run(home, options), indent=1) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
