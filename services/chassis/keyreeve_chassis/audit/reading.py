"""Reading the audit log: segments for verification, records for display, and proofs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, func, select, update

from keyreeve.audit.log import ChainState, Checkpoint, Head, Link, Registration
from keyreeve.audit.merkle import consistency_proof
from keyreeve.audit.record import Record, RecordInvalid, split_fields
from keyreeve.audit.verifying import Problem, Segment, Verifier, Witnessed
from keyreeve_chassis.audit import checkpoints
from keyreeve_chassis.audit.tables import AuditTables

Keep = Callable[[Record, int], bool]
"""Told a record and when it was committed, in milliseconds since 1970."""
_CLOCKS_APART = 60_000
"""Milliseconds by which the leader's clock may differ from the database's."""


_PAGE_BYTES = 1_000_000


class SignedBody(NamedTuple):
    """A checkpoint as it was signed."""

    body: bytes
    signature: bytes


class Found(NamedTuple):
    """One record and its position."""

    position: int
    """Of its commit in the log."""
    place: int
    """Of the record in its commit, from 0."""
    db_time: int
    """When it was committed, in milliseconds since 1970 by the database's clock."""
    record: Record
    body: bytes


class Page(NamedTuple):
    """Records, and where to continue: (position, records of that commit already seen)."""

    records: list[Found]
    next: tuple[int, int]
    at_end: bool


@dataclass(frozen=True)
class AuditReader:
    """Reads one service's log on a caller's connection."""

    tables: AuditTables

    def size(self, connection: Connection) -> int:
        """The number of commits in the log."""
        last = checkpoints.last_checkpoint(connection, self.tables)
        return last.size if last else 0

    def page(
        self,
        connection: Connection,
        keep: Keep,
        start: tuple[int, int],
        *,
        limit: int,
        newest_first: bool,
        between: tuple[int, int | None] = (0, None),
        most_links: int = 2_000,
    ) -> Page:
        """Up to `limit` records that `keep` selects, from at most `most_links` commits.

        `start` is (position, records of that commit already seen), in the direction of reading; `between` bounds the
        positions.
        """
        at, skip = start
        size = self.size(connection)
        low, high = between[0], size if between[1] is None else min(size, between[1])
        found: list[Found] = []
        if newest_first:
            first, end = max(low, at + 1 - most_links), min(at + 1, high)
        else:
            first, end = max(at, low), min(max(at, low) + most_links, high)
        for position, link in self._links(connection, first, end, descending=newest_first):
            records = split_fields(link.bodies) if link.bodies is not None else []
            order = range(len(records) - 1, -1, -1) if newest_first else range(len(records))
            for seen, index in enumerate(order):
                if position == at and seen < skip:
                    continue
                if len(found) == limit:
                    return Page(found, (position, seen), at_end=False)
                try:
                    record = Record.decode(records[index])
                except RecordInvalid:
                    continue  # verifying says so; showing the others must go on
                if keep(record, link.db_time):
                    found.append(Found(position, index, link.db_time, record, records[index]))
        if newest_first:
            return Page(found, (first - 1, 0), at_end=first <= low)
        return Page(found, (max(first, end), 0), at_end=end >= high)

    def around(self, connection: Connection, since: int, until: int | None) -> tuple[int, int | None]:
        """The range of positions of the commits in a span of time (milliseconds since 1970)."""
        low = self._size_before(connection, since - _CLOCKS_APART) if since else 0
        if until is None:
            return low, None
        last = checkpoints.last_number(connection, self.tables)
        number = self._last_before(connection, until + _CLOCKS_APART) + 1
        return low, None if number > last else self._size(connection, number)

    def _size_before(self, connection: Connection, time: int) -> int:
        return self._size(connection, self._last_before(connection, time))

    def _size(self, connection: Connection, k: int) -> int:
        row = checkpoints.checkpoint_row(connection, self.tables, k)
        return Checkpoint.decode(row[0]).size if row is not None else 0

    def _last_before(self, connection: Connection, time: int) -> int:
        """The number of the last checkpoint signed before a time; 0 when there is none."""
        low, high = 0, checkpoints.last_number(connection, self.tables)
        while low < high:
            middle = (low + high + 1) // 2
            row = checkpoints.checkpoint_row(connection, self.tables, middle)
            if row is not None and Checkpoint.decode(row[0]).time < time:
                low = middle
            else:
                high = middle - 1
        return low

    def segments(self, connection: Connection, after: Checkpoint | None, upto: int) -> Iterator[Segment]:
        """What each checkpoint after the given one added, up to `upto`."""
        last, k = after, after.k if after else 0
        # One that is missing is found by the next one, which does not follow.
        while (row := checkpoints.row_after(connection, self.tables, k)) is not None and row[0] <= upto:
            k, body, signature = row
            try:
                checkpoint = Checkpoint.decode(body)
            except RecordInvalid:
                yield Segment(body, signature, (), ())
                continue
            links = [link for _, link in self._links(connection, last.size if last else 0, checkpoint.size)]
            yield Segment(body, signature, self.registrations(connection, last, checkpoint), tuple(links))
            last = checkpoint

    def registrations(
        self, connection: Connection, before: Checkpoint | None, checkpoint: Checkpoint
    ) -> tuple[Registration, ...]:
        """The chains that a checkpoint names and its predecessor did not."""
        known = {h.chain for h in before.heads} if before else set()
        t = self.tables.chains.c
        rows = connection.execute(
            select(t.chain_id, t.restore_generation, t.writer, t.registered_at).where(
                t.chain_id.in_([h.chain for h in checkpoint.heads if h.chain not in known])
            )
        )
        return tuple(sorted(Registration(*row) for row in rows))

    def entries(
        self, connection: Connection, after: int, position: int, most_links: int
    ) -> tuple[list[Registration | Link | SignedBody], tuple[int, int] | None]:
        """The entries after a checkpoint from a position on, and where to continue: (checkpoint, position)."""
        found: list[Registration | Link | SignedBody] = []
        last_number = checkpoints.last_number(connection, self.tables)
        row = checkpoints.checkpoint_row(connection, self.tables, after)
        last = Checkpoint.decode(row[0]) if row is not None else None
        room, bytes_left = most_links, _PAGE_BYTES
        while after < last_number and room > 0 and bytes_left > 0:
            following = checkpoints.row_after(connection, self.tables, after)
            if following is None:
                break
            checkpoint = Checkpoint.decode(following[1])
            begin = last.size if last else 0
            if position <= begin:
                found += self.registrations(connection, last, checkpoint)
            position = max(position, begin)
            end = min(checkpoint.size, position + room)
            for _, link in self._links(connection, position, end):
                found.append(link)
                position += 1
                room -= 1
                bytes_left -= len(link.leaves) + len(link.bodies or b"")
                if bytes_left <= 0:
                    break
            if position < checkpoint.size and (bytes_left <= 0 or room <= 0):
                return found, (after, position)
            found.append(SignedBody(*following[1:]))
            room -= 1
            last, after, position = checkpoint, following[0], checkpoint.size
        return found, (after, position) if after < last_number else None

    def proof(self, connection: Connection, old: Checkpoint, new: Checkpoint) -> list[bytes]:
        """A consistency proof between two checkpoints. Raises `LookupError` when rows are missing."""
        if old.size in {0, new.size}:
            return []
        return consistency_proof(
            old.size, new.size, lambda start, end: checkpoints.range_hash(connection, self.tables, start, end)
        )

    def verify(
        self,
        connection: Connection,
        spki: bytes,
        *,
        after: int = 0,
        most_links: int | None = None,
        witnessed: Sequence[Witnessed] = (),
    ) -> tuple[Verifier, bool]:
        """Verify the tables after a checkpoint, up to `most_links` commits; return whether the end was reached.

        At the end, links without a checkpoint and redundant columns are checked too.
        """
        nodes: dict[tuple[int, int], bytes] = {}
        verifier = Verifier(
            spki,
            witnessed=[w for w in witnessed if w.k >= after],
            on_node=lambda height, number, found: nodes.__setitem__((height, number), found),
        )
        upto = checkpoints.last_number(connection, self.tables)
        row = checkpoints.checkpoint_row(connection, self.tables, after) if after else None
        last = Checkpoint.decode(row[0]) if row is not None else None
        if row is not None and last is not None:
            try:
                frontier = checkpoints.frontier_at(connection, self.tables, last.size)
            except LookupError as missing:
                verifier.problems.append(Problem("node", f"checkpoint {after}", str(missing)))
                return verifier, False
            verifier.resume(*row, frontier)
        for segment in self.segments(connection, last, upto):
            verifier.add(segment)
            if most_links is not None and verifier.links >= most_links and verifier.last and verifier.last.k < upto:
                verifier.problems.extend(self._nodes(connection, nodes))
                verifier.finish_part(self._newest(connection))
                return verifier, False
        self._verify_tail(connection, verifier, upto, whole=after == 0)
        verifier.problems.extend(self._nodes(connection, nodes))
        verifier.finish()
        return verifier, True

    def _newest(self, connection: Connection) -> Checkpoint | None:
        """The newest checkpoint as stored; it is verified with the last segment."""
        try:
            return checkpoints.last_checkpoint(connection, self.tables)
        except RecordInvalid:
            return None

    def purge(self, connection: Connection, before: int, limit: int = 500) -> int:
        """Delete records of up to `limit` commits older than a time, keeping their hashes; return how many."""
        t = self.tables.links
        old = select(t.c.chain_id, t.c.n).where(t.c.db_time < before, t.c.bodies.is_not(None)).limit(limit)
        rows = connection.execute(old).all()
        for chain_id, n in rows:
            connection.execute(update(t).where(t.c.chain_id == chain_id, t.c.n == n).values(bodies=None))
        return len(rows)

    def _verify_tail(self, connection: Connection, verifier: Verifier, upto: int, *, whole: bool) -> None:
        """Verify what no signature covers: the newest links, and redundant columns."""
        t, last = self.tables, verifier.last
        heads = {h.chain: h for h in last.heads} if last else {}
        rows = {r.chain_id: r for r in connection.execute(select(t.chains)).all()}
        links: list[Link] = []
        fresh: list[Registration] = []
        for chain, row in sorted(rows.items()):
            head, where = heads.get(chain), chain.hex()
            if (flaw := self._flaw(connection, row, head, verifier, whole=whole)) is not None:
                verifier.problems.append(Problem("chain", where, flaw))
            if row.settled:
                continue
            if head is None:
                fresh.append(Registration(row.chain_id, row.restore_generation, row.writer, row.registered_at))
            reached = head.n if head else 0
            query = _columns(t).where(t.links.c.chain_id == chain, t.links.c.n > reached).order_by(t.links.c.n)
            links += [_link(r) for r in connection.execute(query)]
        for chain in connection.execute(
            select(t.links.c.chain_id).distinct().where(t.links.c.chain_id.not_in(rows))
        ).scalars():
            verifier.problems.append(Problem("chain", chain.hex(), "it has links and is not registered"))
        size = last.size if last else 0
        beyond = connection.scalar(select(func.count()).select_from(t.log).where(t.log.c.position >= size)) or 0
        if beyond:
            verifier.problems.append(Problem("log", f"position {size}", f"{beyond} places beyond the last checkpoint"))
        places = connection.scalar(select(func.count()).select_from(t.log).where(t.log.c.position < size)) or 0
        if places != size:
            verifier.problems.append(Problem("log", f"position {size}", f"{places} places where {size} were signed"))
        count = connection.scalar(select(func.count()).select_from(t.checkpoints)) or 0
        if count != upto:
            verifier.problems.append(Problem("checkpoint", f"checkpoint {upto}", f"{count} are there up to it"))
        verifier.add_tail(fresh, links)

    def _flaw(
        self, connection: Connection, row: Row[Any], head: Head | None, verifier: Verifier, *, whole: bool
    ) -> str | None:
        """Return what is wrong with a chain's row, which only repeats links and checkpoints."""
        c = self.tables.links.c
        count, most = connection.execute(
            select(func.count(), func.coalesce(func.max(c.n), 0)).where(c.chain_id == row.chain_id)
        ).one()
        if not count == most == row.n:
            return f"it is at {row.n} and has {count} links up to {most}"
        newest = connection.scalar(select(c.link).where(c.chain_id == row.chain_id, c.n == row.n))
        if newest is None:
            newest = Registration(row.chain_id, row.restore_generation, row.writer, row.registered_at).genesis()
        if newest != row.head:
            return "its head is not its last link"
        return _end_flaw(row, head, verifier.ended.get(row.chain_id), whole=whole)

    def _nodes(self, connection: Connection, computed: dict[tuple[int, int], bytes]) -> list[Problem]:
        """Compare the stored Merkle nodes with the computed ones."""
        t = self.tables.nodes.c
        wanted = {key: found for key, found in computed.items() if key[0] % checkpoints.TILE == 0}
        kept = {(r.height, r.number): r.hash for r in connection.execute(select(t.height, t.number, t.hash))}
        return [
            Problem("node", f"node {height}/{number}", "it is not the root of its links")
            for (height, number), found in sorted(wanted.items())
            if kept.get((height, number)) != found
        ]

    def _links(
        self, connection: Connection, start: int, end: int, *, descending: bool = False
    ) -> Iterator[tuple[int, Link]]:
        t = self.tables
        order = t.log.c.position.desc() if descending else t.log.c.position
        rows = connection.execute(
            _columns(t)
            .add_columns(t.log.c.position)
            .join(t.log, (t.log.c.chain_id == t.links.c.chain_id) & (t.log.c.n == t.links.c.n))
            .where(t.log.c.position >= start, t.log.c.position < end)
            .order_by(order)
        )
        for row in rows:
            yield row.position, _link(row)


def _columns(t: AuditTables) -> Select[Any]:
    c = t.links.c
    return select(c.chain_id, c.n, c.db_time, c.leaves, c.bodies, c.link)


def _link(row: Row[Any]) -> Link:
    return Link(row.chain_id, row.n, row.db_time, row.leaves, row.bodies, row.link)


def _end_flaw(row: Row[Any], head: Head | None, ended: Head | None, *, whole: bool) -> str | None:
    """Return what is wrong with a chain's recorded end."""
    if not row.settled:
        return None if ended is None else f"it was signed as {ended.state} and does not count as ended"
    if ended is not None:
        if (ended.state, ended.n) == (row.state, row.n):
            return None
        return f"it is {row.state} at {row.n}, and was signed as {ended.state} at {ended.n}"
    if head is not None and head.state is ChainState.OPEN:
        return "it counts as ended, and was signed as open"
    return "it counts as ended, and no checkpoint says so" if whole else None
