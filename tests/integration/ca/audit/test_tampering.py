"""Verification detects 1,000 random changes, deletions, reorderings, truncations and removals in the tables."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import BigInteger, Boolean, Connection, Integer, LargeBinary, Table, delete, func, select, text, update

from keyreeve.audit.log import digest, leaves_of
from keyreeve.audit.record import Record
from keyreeve.audit.verifying import Witnessed
from keyreeve.length_prefix import length_prefixed
from keyreeve_ca.store.audit_tables import AUDIT, audit
from keyreeve_chassis.audit import checkpoints
from keyreeve_chassis.audit.chains import ChainWriter
from keyreeve_chassis.audit.checkpoints import Checkpointer
from keyreeve_chassis.audit.reading import AuditReader
from keyreeve_chassis.audit.sql import cursor_of
from support.databases import CaDatabase

CHANGES = {True: 800, False: 200}
"""A thousand: most on SQLite, whose tables are nearer."""
TABLES = (audit.chains, audit.links, audit.log, audit.nodes, audit.checkpoints)
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
READER = AuditReader(audit)
HORIZON = 1_000


@dataclass
class Log:
    """A log of three chains: one closed, one open, one with a tail that no checkpoint covers yet."""

    connection: Connection
    chains: list[ChainWriter]
    witnessed: Witnessed
    tail: set[tuple[bytes, int]]


def _record(number: int) -> bytes:
    return Record(
        method="/x.Y/Z",
        caller="spiffe://example.test/operators/admin/ann",
        credential="1",
        subject="",
        peer="ipv4:127.0.0.1:1",
        tls="TLSv1.3",
        time=number,
        request_id=str(number),
        call_id=f"call-{number}",
        targets=(("name", f"things/{number}"),),
        code="OK",
        reason="",
        results=(),
        calls=1,
    ).encode()


def write_log(connection: Connection, *, postgresql: bool) -> Log:
    make = partial(AUDIT.chain, now=lambda: 5, postgresql=postgresql)
    chains = [make(f"test/{n}") for n in range(3)]
    cursor = cursor_of(connection)
    leader = Checkpointer(
        audit,
        lambda body: KEY.sign(body, ec.ECDSA(SHA256())),
        AUDIT.restore_generation,
        lambda _: HORIZON,
        lambda: 6_000,
    )
    number = 0
    for round_ in range(5):
        for chain in chains:
            if chain is chains[0] and round_ > 2:
                continue
            for _ in range(22):
                number += 1
                chain.append(cursor, [_record(number * 10 + i) for i in range(1 + number % 11 // 10)])
        if round_ == 2:
            chains[0].close(cursor)
        assert leader.run(connection) is not None
    assert leader.run(connection) is None, "there is nothing new"
    last = checkpoints.last_checkpoint(connection, audit)
    assert last is not None
    assert last.size >= 256, "there is a node"
    tail = set()
    for extra in range(2):
        chains[2].append(cursor, [_record(9_000 + extra)])
        tail.add((chains[2].chain, 5 * 22 + 1 + extra))
    return Log(connection, chains, Witnessed(last.k, digest(last.encode())), tail)


@pytest.fixture
def log(ca_database: CaDatabase) -> Iterator[Log]:
    """One transaction that is never committed: each change is undone by a savepoint."""
    engine = ca_database.engine()
    with engine.connect() as connection:
        yield write_log(connection, postgresql=not ca_database.is_sqlite)
        connection.rollback()
    engine.dispose()


def found(log: Log) -> list[str]:
    verifier, done = READER.verify(log.connection, SPKI, witnessed=[log.witnessed])
    assert done or verifier.problems
    return [f"{p.kind}: {p.where}: {p.message}" for p in verifier.problems]


def test_an_untouched_log_has_no_problem_and_says_its_tail(log):
    verifier, done = READER.verify(log.connection, SPKI, witnessed=[log.witnessed])
    assert (verifier.problems, done, verifier.tail_links) == ([], True, 2)
    for after in range(1, 6):
        resumed, done = READER.verify(log.connection, SPKI, after=after, witnessed=[log.witnessed])
        assert (resumed.problems, done) == ([], True)


def test_parts_of_a_long_log_can_be_verified_one_after_the_other(log):
    after, links, calls = 0, 0, 0
    while True:
        verifier, done = READER.verify(log.connection, SPKI, after=after, most_links=100)
        assert verifier.problems == []
        links, calls = links + verifier.links, calls + 1
        if done:
            break
        assert verifier.last is not None
        after = verifier.last.k
    assert calls > 2
    assert links == 13 * 22 + 2


@pytest.mark.thorough_on("postgresql")
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_every_one_of_a_thousand_tamperings_is_found_or_lies_in_the_tail(log):
    random = Random(17)
    missed = []
    in_tail = 0
    changes = CHANGES[log.connection.dialect.name == "sqlite"]
    for number in range(changes):
        savepoint = log.connection.begin_nested()
        what, touched = tamper(log, random)
        problems = found(log)
        savepoint.rollback()
        if not problems and touched is not None and touched <= log.tail:
            in_tail += 1
        elif not problems:
            missed.append(f"{number}: {what}")
    assert missed == []
    assert in_tail < changes // 10


def test_records_go_when_they_are_old_enough_and_their_hashes_stay(log):
    old = log.connection.begin_nested()
    log.connection.execute(update(audit.links).values(bodies=None))
    assert any("too new" in problem for problem in found(log))
    old.rollback()
    assert READER.purge(log.connection, HORIZON) == 0, "everything is younger than that"
    assert found(log) == []


def test_records_that_are_gone_too_early_are_found_in_whichever_part_of_a_long_log_they_lay(log):
    for chain, n in ((log.chains[0].chain, 1), (log.chains[2].chain, 60)):
        before = log.connection.begin_nested()
        gone = (audit.links.c.chain_id == chain) & (audit.links.c.n == n)
        log.connection.execute(update(audit.links).where(gone).values(bodies=None))
        after, told, done = 0, [], False
        while not done:
            verifier, done = READER.verify(log.connection, SPKI, after=after, most_links=50)
            told += [problem.message for problem in verifier.problems]
            after = verifier.last.k
        assert told == ["its records are missing, but too new to have been purged"]
        before.rollback()


# --- The hand of a database's administrator -----------------------------------------------------------------------------


def tamper(log: Log, random: Random) -> tuple[str, set[tuple[bytes, int]] | None]:
    """Change something; what, and which links were touched if it was only those."""
    return random.choice(WAYS)(log, random)


def _rows(connection: Connection, table: Table):
    return connection.execute(select(table).order_by(*table.primary_key.columns)).all()


def _at(table: Table, row):
    keys = list(table.primary_key.columns)
    condition = keys[0] == getattr(row, keys[0].name)
    for key in keys[1:]:
        condition &= key == getattr(row, key.name)
    return condition


def _touched(table: Table, row) -> set[tuple[bytes, int]] | None:
    return {(row.chain_id, row.n)} if table is audit.links else None


def change_a_value(log: Log, random: Random):
    table = random.choice(TABLES)
    row = random.choice(_rows(log.connection, table))
    column = random.choice([c for c in table.columns if c.name != "state"])
    value = getattr(row, column.name)
    changed: object
    if isinstance(column.type, LargeBinary):
        at = random.randrange(len(value))
        changed = value[:at] + bytes([value[at] ^ (1 << random.randrange(8))]) + value[at + 1 :]
    elif isinstance(column.type, Boolean):
        changed = not value
    elif isinstance(column.type, BigInteger | Integer) or isinstance(value, int):
        changed = value + random.choice((100_000, 200_000))
    else:
        changed = value + "x"
    log.connection.execute(update(table).where(_at(table, row)).values({column.name: changed}))
    return f"{table.name}.{column.name} of {row}", _touched(table, row)


def end_a_chain_otherwise(log: Log, _: Random):
    chain = log.chains[0].chain
    log.connection.execute(update(audit.chains).where(audit.chains.c.chain_id == chain).values(state="abandoned"))
    return "the end of the closed chain", None


def delete_a_row(log: Log, random: Random):
    table = random.choice(TABLES)
    row = random.choice(_rows(log.connection, table))
    log.connection.execute(delete(table).where(_at(table, row)))
    return f"deleted from {table.name}: {row}", _touched(table, row)


def swap_two_links(log: Log, random: Random):
    chain = random.choice(log.chains).chain
    c = audit.links.c
    rows = log.connection.execute(select(audit.links).where(c.chain_id == chain)).all()
    one, other = random.sample(rows, 2)
    for at, row in ((one.n, other), (other.n, one)):
        log.connection.execute(
            update(audit.links)
            .where(c.chain_id == chain, c.n == at)
            .values(db_time=row.db_time, link=row.link, leaves=row.leaves, bodies=row.bodies)
        )
    return f"swapped {one.n} and {other.n}", {(chain, one.n), (chain, other.n)}


def swap_two_places(log: Log, random: Random):
    one, other = random.sample(_rows(log.connection, audit.log), 2)
    for at, row in ((one.position, other), (other.position, one)):
        log.connection.execute(
            update(audit.log).where(audit.log.c.position == at).values(chain_id=row.chain_id, n=row.n)
        )
    return f"swapped the places {one.position} and {other.position}", None


def cut_the_log(log: Log, random: Random):
    """Back to an earlier checkpoint, consistently: only a witness can tell."""
    k = random.randrange(1, log.witnessed.k)
    row = checkpoints.checkpoint_row(log.connection, audit, k)
    last = checkpoints.Checkpoint.decode(row[0])
    log.connection.execute(delete(audit.checkpoints).where(audit.checkpoints.c.k > k))
    log.connection.execute(delete(audit.log).where(audit.log.c.position >= last.size))
    log.connection.execute(delete(audit.nodes).where(text("(number + 1) * 256 > :size")), {"size": last.size})
    for head in last.heads:
        c = audit.links.c
        log.connection.execute(delete(audit.links).where(c.chain_id == head.chain, c.n > head.n))
        log.connection.execute(
            update(audit.chains)
            .where(audit.chains.c.chain_id == head.chain)
            .values(n=head.n, head=head.link, state=head.state, settled=head.state != "open")
        )
    return f"cut back to checkpoint {k}", None


def truncate_a_chain(log: Log, random: Random):
    chain = random.choice(log.chains).chain
    c = audit.links.c
    length = log.connection.scalar(select(func.max(c.n)).where(c.chain_id == chain))
    n = random.randrange(length)
    gone = {(chain, m) for m in range(n + 1, length + 1)}
    head = log.connection.scalar(select(c.link).where(c.chain_id == chain, c.n == n))
    log.connection.execute(delete(audit.links).where(c.chain_id == chain, c.n > n))
    if head is not None:
        log.connection.execute(update(audit.chains).where(audit.chains.c.chain_id == chain).values(n=n, head=head))
    return f"cut a chain of {length} at {n}", gone


def remove_a_chain(log: Log, random: Random):
    chain = random.choice(log.chains).chain
    for table in (audit.chains, audit.links, audit.log):
        log.connection.execute(delete(table).where(table.c.chain_id == chain))
    return "removed a whole chain", None


def forge_a_record(log: Log, random: Random):
    """Another record, with hashes that fit it: the link does not."""
    row = random.choice(_rows(log.connection, audit.links))
    body = _record(random.randrange(10**6))
    log.connection.execute(
        update(audit.links)
        .where(_at(audit.links, row))
        .values(leaves=leaves_of([body])[0], bodies=length_prefixed(body))
    )
    return f"forged {row.n}", _touched(audit.links, row)


def take_records_away(log: Log, random: Random):
    row = random.choice(_rows(log.connection, audit.links))
    log.connection.execute(update(audit.links).where(_at(audit.links, row)).values(bodies=None))
    return f"took the records of {row.n} away", _touched(audit.links, row)


def sign_with_another_key(log: Log, random: Random):
    row = random.choice(_rows(log.connection, audit.checkpoints))
    another = ec.generate_private_key(ec.SECP256R1())
    log.connection.execute(
        update(audit.checkpoints)
        .where(audit.checkpoints.c.k == row.k)
        .values(signature=another.sign(row.body, ec.ECDSA(SHA256())))
    )
    return f"signed checkpoint {row.k} with another key", None


WAYS: tuple[Callable[[Log, Random], tuple[str, set[tuple[bytes, int]] | None]], ...] = (
    *[change_a_value] * 6,
    *[delete_a_row] * 3,
    end_a_chain_otherwise,
    swap_two_links,
    swap_two_places,
    cut_the_log,
    truncate_a_chain,
    remove_a_chain,
    forge_a_record,
    take_records_away,
    sign_with_another_key,
)
