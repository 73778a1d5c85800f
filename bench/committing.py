"""`python -m committing DATABASE DIRECTORY`: what a commit costs in CPU, with nothing around it; one JSON object.

Groups of made-up certificates are committed by the ledgers themselves.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keyreeve.audit import record as records
from keyreeve_bench import postgresql
from keyreeve_bench.local_processes import Group
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
WORKER = "bench"
GROUPS = {"unary": (10, 1), "batch": (1, 100)}
"""Requests in a group and certificates in each, about as the keeper is sent them under load."""
COMMITTED = 4_000


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
    cpu_seconds: float = 0.0
    """What this process used in all commits."""

    async def commit(self, size: int, items: int = 1) -> float:
        """Commit a group of so many requests, each for so many certificates; the microseconds that it took."""
        if self.counter + size * items > BLOCK_SIZE:
            request = BlockRequest("estate-1", WORKER, frozenset(), os.urandom(8).hex(), b"")
            self.lease, self.counter = await self.ledger.lease_block(request), 0
        assert self.lease is not None
        claims = [self._claim(self.lease, self.counter + n * items, items) for n in range(size)]
        last = self.counter + size * items - 1
        self.counter += size * items
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
        began, spent = time.perf_counter(), time.process_time()
        await self.ledger.commit(group)
        self.cpu_seconds += time.process_time() - spent
        return (time.perf_counter() - began) * 1e6

    def _claim(self, lease: BlockLease, first: int, items: int) -> RequestClaim:
        request_id = os.urandom(16).hex()
        entries = tuple(self._entry(lease, first + n, request_id) for n in range(items))
        return RequestClaim(CALLER, METHOD, request_id, b"", entries, audit=audit_head(request_id), batch=items > 1)

    @staticmethod
    def _entry(lease: BlockLease, counter: int, request_id: str) -> IssuedCertificate:
        return IssuedCertificate(
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


async def ledger_on(kind: str, reader: Database, writer: Database) -> tuple[SqliteLedger | PostgresqlLedger, SqlStore]:
    """The ledger of a new database, and its store."""
    store = SqlStore(reader=reader, writer=writer, read_profile=profile_from_canonical, now=lambda: NOW)
    await store.write(first)
    if kind == "sqlite":
        return SqliteLedger(writer, now=lambda: NOW, writer=WORKER), store
    ledger = PostgresqlLedger(writer, WORKER)
    await ledger.register_worker(WORKER, 3_600)
    return ledger, store


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


async def costs(database: str, directory: Path) -> dict[str, tuple[float, float]]:
    """Microseconds of CPU for one certificate, without and with audit records, in groups of each kind."""
    found = {}
    with opened(database, directory) as (reader, writer):
        ledger, _ = await ledger_on(database, reader, writer)
        pid = directory / "postgresql" / "data" / "postmaster.pid"
        server = Group(int(pid.read_text().split()[0])) if database == "postgresql" else None
        committing, chain = Committing(ledger), ledger._chain  # noqa: SLF001 - to measure what it costs
        for kind, (size, items) in GROUPS.items():
            spent = []
            for recorded in (False, True):
                ledger._chain = chain if recorded else NoChain()  # type: ignore[assignment]  # noqa: SLF001
                await committing.commit(size, items)
                before, turns = committing.cpu_seconds + _spent(server), COMMITTED // (size * items)
                for _ in range(turns):
                    await committing.commit(size, items)
                after = committing.cpu_seconds + _spent(server)
                spent.append(round(1e6 * (after - before) / (turns * size * items), 1))
            ledger._chain = chain  # noqa: SLF001
            found[kind] = (spent[0], spent[1])
    return found


def _spent(server: Group | None) -> float:
    return 0.0 if server is None else server.usage().cpu_seconds


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(costs(sys.argv[1], Path(sys.argv[2])))) + "\n")
