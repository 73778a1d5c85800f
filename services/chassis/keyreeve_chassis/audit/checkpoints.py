"""Checkpoints: order the new links of all chains in one log, and sign its state.

Any process that can sign may try; the transaction's lock makes one of them the leader, and the number of a checkpoint
is a primary key.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BigInteger, Connection, Insert, Select, bindparam, func, insert, select, text, update

from keyreeve.audit.log import NO_HASH, ChainState, Checkpoint, Head, digest
from keyreeve.audit.merkle import Frontier, edges, leaf_hash, root_of, split
from keyreeve_chassis.audit.tables import AuditTables
from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.processes import failpoints

CHECKPOINTS = "checkpoints"
"""Topic that is touched when a checkpoint is stored (`keyreeve_chassis.changes`)."""
MOST_LINKS = 10_000
"""In one checkpoint; what is left comes into the next one."""
TILE = 8
"""Of the complete subtrees, those of every eighth height are kept."""
_LOCK = zlib.crc32(b"keyreeve audit checkpoint")
_SIGNED = failpoints.register("audit.checkpoint.signed", "A checkpoint is signed and not yet stored.")


@dataclass
class Checkpointer:
    """Signs checkpoints. `horizon` returns before which time records may be purged."""

    tables: AuditTables
    sign: Callable[[bytes], bytes]
    restore_generation: Callable[[Connection], int]
    horizon: Callable[[int], int]
    now: Callable[[], int]
    """Milliseconds since 1970."""
    _edge: Frontier = field(default_factory=Frontier)
    _signed: frozenset[tuple[bytes, int, str]] | None = None
    """The chains when there was nothing to sign."""
    _read: Select[bytes] = field(init=False)
    _place: Insert = field(init=False)
    _chains: Select[bytes, int, str] = field(init=False)

    def __post_init__(self) -> None:
        self._read, self._place = _statements(self.tables)
        t = self.tables.chains.c
        self._chains = select(t.chain_id, t.n, t.state).where(t.settled.is_(False))

    def is_due(self, connection: Connection) -> bool:
        """Whether `run` may find something new; in one statement, and without the lock that `run` takes."""
        return self._signed is None or _ends(connection.execute(self._chains).all()) != self._signed

    def run(self, connection: Connection) -> Checkpoint | None:
        """Sign the next checkpoint in the caller's transaction.

        None when there is nothing new, or another process leads.
        """
        if not _leads(connection):
            return None
        t = self.tables
        last = last_checkpoint(connection, t)
        known = {h.chain: h for h in last.heads if h.state is ChainState.OPEN} if last else {}
        rows = connection.execute(select(t.chains).where(t.chains.c.settled.is_(False))).all()
        runs, heads, ended = self._new_links(connection, rows, known)
        if not runs and {h.chain: h for h in heads} == known:
            self._signed = _ends(rows)
            return None
        nodes: list[dict[str, object]] = []

        def keep(height: int, number: int, found: bytes) -> None:
            if height % TILE == 0:
                nodes.append({"height": height, "number": number, "hash": found})

        edge = self._frontier(connection, last)
        frontier = Frontier(edge.size, edge.roots, keep)
        for run in runs:
            frontier.extend(leaf_hash(link) for link in run.links)
        now = max(self.now(), last.time if last else 0)
        body = Checkpoint(
            k=last.k + 1 if last else 1,
            previous=digest(last.encode()) if last else NO_HASH,
            restore_generation=self.restore_generation(connection),
            time=now,
            horizon=max(self.horizon(now), last.horizon if last else 0),
            size=frontier.size,
            root=frontier.root(),
            heads=tuple(heads),
        )
        encoded = body.encode()
        signature = self.sign(encoded)
        failpoints.hit(_SIGNED)
        size = last.size if last else 0
        for run in runs:
            connection.execute(self._place, {**run.where, "size": size})
            size += len(run.links)
        if nodes:
            connection.execute(insert(t.nodes), nodes)
        connection.execute(insert(t.checkpoints).values(k=body.k, body=encoded, signature=signature))
        touch(connection, CHECKPOINTS)
        if ended:
            connection.execute(update(t.chains).where(t.chains.c.chain_id.in_(ended)).values(settled=True))
        self._edge = Frontier(frontier.size, frontier.roots)
        return body

    def _new_links(
        self, connection: Connection, rows: Sequence[Any], known: dict[bytes, Head]
    ) -> tuple[list["_Run"], list[Head], list[bytes]]:
        """The links since the last checkpoint in order, the resulting heads, and the chains that end."""
        runs: list[_Run] = []
        room = MOST_LINKS
        heads: list[Head] = []
        ended: list[bytes] = []
        for row in sorted(rows, key=lambda r: bytes(r.chain_id)):
            before = known.get(row.chain_id)
            reached = before.n if before else 0
            upto = min(row.n, reached + room)
            where = {"chain": row.chain_id, "after": reached, "upto": upto}
            new = connection.scalars(self._read, where).all()
            room -= len(new)
            if new:
                runs.append(_Run(where, new))
                link = new[-1]
            elif before is not None:
                link = before.link
            else:
                link = row.head if row.n == 0 else NO_HASH
            whole = upto == row.n
            state = ChainState(row.state) if whole else ChainState.OPEN
            if before is None and not new and not whole:
                continue  # no room for its first link yet
            heads.append(Head(row.chain_id, upto, link, state))
            if state is not ChainState.OPEN:
                ended.append(row.chain_id)
        return runs, heads, ended

    def _frontier(self, connection: Connection, last: Checkpoint | None) -> Frontier:
        """The right edge of the Merkle tree: from memory, unless another leader has extended it since."""
        if last is None:
            return Frontier()
        if self._edge.size != last.size or self._edge.root() != last.root:
            return frontier_at(connection, self.tables, last.size)
        return self._edge


def _ends(rows: Iterable[Any]) -> frozenset[tuple[bytes, int, str]]:
    return frozenset((bytes(row.chain_id), row.n, row.state) for row in rows)


@dataclass(frozen=True, slots=True)
class _Run:
    """Consecutive links of one chain, and the parameters that select them."""

    where: dict[str, object]
    links: Sequence[bytes]


def _statements(tables: AuditTables) -> tuple[Select[bytes], Insert]:
    """Statements that read a run's links and store their positions, without fetching them again.

    Cached: the writer waits for them each second, and building a statement takes longer than executing it.
    """
    t = tables.links.c
    run = (t.chain_id == bindparam("chain"), t.n > bindparam("after"), t.n <= bindparam("upto"))
    place = bindparam("size", type_=BigInteger) - 1 + func.row_number().over(order_by=t.n)
    return (
        select(t.link).where(*run).order_by(t.n),
        insert(tables.log).from_select(["position", "chain_id", "n"], select(place, t.chain_id, t.n).where(*run)),
    )


def last_checkpoint(connection: Connection, tables: AuditTables) -> Checkpoint | None:
    """The newest checkpoint."""
    body = connection.scalar(select(tables.checkpoints.c.body).order_by(tables.checkpoints.c.k.desc()).limit(1))
    return None if body is None else Checkpoint.decode(body)


def checkpoint_row(connection: Connection, tables: AuditTables, k: int) -> tuple[bytes, bytes] | None:
    """Body and signature of a checkpoint."""
    t = tables.checkpoints.c
    row = connection.execute(select(t.body, t.signature).where(t.k == k)).one_or_none()
    return None if row is None else (row.body, row.signature)


def row_after(connection: Connection, tables: AuditTables, k: int) -> tuple[int, bytes, bytes] | None:
    """The next existing checkpoint after a number: (number, body, signature)."""
    t = tables.checkpoints.c
    row = connection.execute(select(t.k, t.body, t.signature).where(t.k > k).order_by(t.k).limit(1)).one_or_none()
    return None if row is None else (row.k, row.body, row.signature)


def last_number(connection: Connection, tables: AuditTables) -> int:
    """The number of the newest checkpoint; 0 before the first."""
    return connection.scalar(select(func.max(tables.checkpoints.c.k))) or 0


def frontier_at(connection: Connection, tables: AuditTables, size: int) -> Frontier:
    """The right edge of the Merkle tree at size `size`."""
    return Frontier(size, [range_hash(connection, tables, start, end) for start, end in edges(size)])


def range_hash(connection: Connection, tables: AuditTables, start: int, end: int) -> bytes:
    """The Merkle root over the links `start` to `end`, from stored nodes where they fit.

    Raises `LookupError` when rows are missing.
    """
    width = end - start
    height = width.bit_length() - 1
    if width == 1 << height and height and height % TILE == 0 and start % width == 0:
        t = tables.nodes.c
        found: bytes | None = connection.scalar(select(t.hash).where(t.height == height, t.number == start // width))
        if found is None:
            raise LookupError(f"the node {height}/{start // width} of the audit log's tree is missing")
        return found
    if width <= 1 << TILE:
        links = connection.execute(
            select(tables.links.c.link)
            .join(
                tables.log,
                (tables.log.c.chain_id == tables.links.c.chain_id) & (tables.log.c.n == tables.links.c.n),
            )
            .where(tables.log.c.position >= start, tables.log.c.position < end)
            .order_by(tables.log.c.position)
        ).scalars()
        leaves = [leaf_hash(link) for link in links]
        if len(leaves) != width:
            raise LookupError(f"of the audit log's links {start} to {end} some are missing")
        return root_of(leaves)
    middle = start + split(width)
    left, right = range_hash(connection, tables, start, middle), range_hash(connection, tables, middle, end)
    return root_of([left, right])


def _leads(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True  # the one writer
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar_one())
