"""`python -m keyreeve_bench.fill`: fill a ledger with synthetic certificates, to measure a large one.

    keyreeve down
    python -m keyreeve_bench.fill --certificates 20000000 --database sqlite:////srv/keyreeve/ca/ca.db
    keyreeve up

The service must have been started once on the database; on SQLite it must not run meanwhile. The invariants that readers
rely on hold: every certificate is in a block of its authority, blocks have their counters, numbers and CRL shards, and
serial numbers are derived from the block's seed and are in the DER. There are no audit records, stored answers or key
holders, and the signatures of the certificates are invalid. For databases that exist to be measured.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, Engine, func, insert, select, update

from keyreeve.cli.exit_codes import print_error
from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.ledger.blocks import EPOCH
from keyreeve_ca.ledger.ports import BLOCK_SIZE, BLOCKS_PER_CRL_SHARD, IssuedCertificate
from keyreeve_ca.ledger.wire import (
    POSTGRESQL_COPY,
    POSTGRESQL_TYPES,
    SQLITE_INSERT,
    Row,
    certificate_tuple,
    row,
)
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_ca.store.tables import authorities, control_plane, serial_blocks
from keyreeve_chassis.database.engine import postgresql, sqlite_writer
from keyreeve_chassis.database.locking import DatabaseRefused, FileLock
from keyreeve_chassis.schema.revisions import check_version

SEED = b"f" * 32
CALLERS = 16
DAYS = 20
"""Days over which the synthetic certificates were issued; each lives 30 days."""
_LIFETIME = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Filled:
    """What was inserted."""

    certificates: int
    blocks: int
    seconds: float
    serials: tuple[str, ...]
    """A sample over the whole range."""


def fill(engine: Engine, count: int, now: int) -> Filled:
    """Insert `count` certificates into a ledger that the service has created; `now` in seconds since 1970."""
    began = time.perf_counter()
    check_version(engine, SCHEMA)
    with engine.begin() as connection:
        authority = connection.execute(
            select(authorities.c.authority_id, authorities.c.block_count)
            .where(authorities.c.hierarchy == Hierarchy.ESTATE, authorities.c.state == AuthorityState.ACTIVE)
            .order_by(authorities.c.not_after)
            .where(authorities.c.kind == AuthorityKind.INTERMEDIATE)
            .limit(1)
        ).one()
        number: int = connection.execute(select(control_plane.c.block_count)).scalar_one()
        first: int | None = connection.scalar(select(func.min(serial_blocks.c.block_id)))
    blocks = -(-count // BLOCK_SIZE)
    end = ((now - EPOCH) << 14) if first is None else first
    step = (DAYS * 86_400 << 14) // blocks
    some: list[str] = []
    der = _Der.make()
    for at in range(blocks):
        size = min(BLOCK_SIZE, count - at * BLOCK_SIZE)
        block_id = max(at, end - step * (blocks - at))
        issued_at = (block_id >> 14) + EPOCH
        with engine.begin() as connection:
            rows = _rows(_Block(authority.authority_id, block_id, number + at, size, issued_at), der)
            some += _put(connection, rows, every=max(1, count // 10_000))
            connection.execute(
                insert(serial_blocks).values(
                    block_id=block_id,
                    restore_generation=1,
                    authority_id=authority.authority_id,
                    worker_id="fill",
                    profile_hashes=b"",
                    seed_id="",
                    sealed_seed=b"",
                    size=BLOCK_SIZE,
                    crl_shard=(authority.block_count + at) // BLOCKS_PER_CRL_SHARD,
                    number=number + at,
                    state="closed",
                    committed=size - 1,
                    first_not_after=issued_at + _LIFETIME,
                    last_not_after=issued_at + _LIFETIME,
                    leased_at=issued_at,
                )
            )
            where = authorities.c.authority_id == authority.authority_id
            connection.execute(update(authorities).where(where).values(block_count=authorities.c.block_count + 1))
            connection.execute(update(control_plane).values(block_count=control_plane.c.block_count + 1))
        if at % 64 == 63:
            print_error(f"{(at + 1) * BLOCK_SIZE:,} of {count:,} in {time.perf_counter() - began:,.0f} s")
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM (ANALYZE) certificates")
            connection.exec_driver_sql("VACUUM (ANALYZE) serial_blocks")
    return Filled(count, blocks, time.perf_counter() - began, tuple(some))


@dataclass(frozen=True, slots=True)
class _Der:
    """A certificate split around its serial number; all synthetic ones share the rest."""

    head: bytes
    tail: bytes
    csr: bytes

    @classmethod
    def make(cls) -> "_Der":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "synthetic certificate")])
        number = serial(1, SEED, 0)
        moment = datetime.fromtimestamp(EPOCH, UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("filled.bench.example.test")])
        built = (
            x509.CertificateBuilder(name, name, key.public_key(), int.from_bytes(number, "big"))
            .not_valid_before(moment)
            .not_valid_after(moment + timedelta(days=36_500))
            .add_extension(names, critical=False)
            .sign(key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )
        csr = (
            x509.CertificateSigningRequestBuilder(name).add_extension(names, critical=False).sign(key, hashes.SHA256())
        )
        head, tail = built.split(number)
        return cls(head, tail, csr.public_bytes(Encoding.DER))


@dataclass(frozen=True, slots=True)
class _Block:
    authority_id: str
    block_id: int
    number: int
    size: int
    issued_at: int


def _rows(block: _Block, der: _Der) -> Iterator[Row]:
    # In order of serial number, which inserts fastest; the service's arrive unordered within a block.
    for serial_number in sorted(serial(block.block_id, SEED, counter) for counter in range(block.size)):
        chance = int.from_bytes(serial_number[-4:], "big")
        certificate = IssuedCertificate(
            serial=serial_number,
            authority_id=block.authority_id,
            profile_name="server",
            profile_version=1,
            caller=f"spiffe://bench.localhost/workloads/filled-{chance % CALLERS}",
            request_id="",
            identity=f"host-{chance % 1_000_000}.filled.bench.example.test",
            spki_sha256=os.urandom(32),
            not_before=block.issued_at - 300,
            not_after=block.issued_at + _LIFETIME,
            issued_at=block.issued_at,
            der=der.head + serial_number + der.tail,
            csr=der.csr,
            requested_sans="[]",
            requested_lifetime_seconds=None,
        )
        yield row(certificate_tuple(certificate), block.number)


def _put(connection: Connection, rows: Iterator[Row], *, every: int) -> list[str]:
    """Insert the rows; return the serial number of every `every`-th one."""
    kept = list(rows)
    raw: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        raw.executemany(SQLITE_INSERT, kept)
    else:
        with (
            raw.cursor() as cursor,
            cursor.copy(POSTGRESQL_COPY) as copy,
        ):
            copy.set_types(POSTGRESQL_TYPES)
            for one in kept:
                copy.write_row(one)
    return [one[0].hex() for one in itertools.islice(kept, 0, None, every)]


def open_engine(url: str, stack: ExitStack) -> Engine:
    """Open the database for writing, an SQLite file under its lock. Raises `DatabaseRefused`."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.is_file():
            raise DatabaseRefused(f"{path} does not exist; start the service once to make it")
        stack.enter_context(FileLock(path))
        engine = sqlite_writer(path)
    elif url.startswith("postgresql"):
        engine = postgresql(
            url, schema=SCHEMA.name, application_name="keyreeve fill", connections=2, statement_timeout_ms=3_600_000
        )
    else:
        raise DatabaseRefused("the database URL is neither sqlite:///PATH nor postgresql://...")
    stack.callback(engine.dispose)
    return engine


def main(arguments: Sequence[str]) -> int:
    """Fill a ledger, print one JSON object and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m keyreeve_bench.fill", description="Fill a ledger with synthetic certificates."
    )
    parser.add_argument("--certificates", type=int, required=True)
    parser.add_argument("--database", required=True, help="sqlite:///PATH or postgresql://...")
    given = parser.parse_args(arguments)
    if given.certificates < 1:
        parser.error("--certificates is at least 1")
    try:
        with ExitStack() as stack:
            done = fill(open_engine(given.database, stack), given.certificates, int(time.time()))
    except DatabaseRefused as refused:
        print_error(f"the ledger cannot be filled: {refused}")
        return 1
    told = {"certificates": done.certificates, "blocks": done.blocks, "seconds": round(done.seconds, 1)}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
