"""CRLs and phantoms: their part of `RevocationRecords`, on both databases."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, func, select, true, union_all, update
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve_ca.ledger.commit_rules import unpack_hashes
from keyreeve_ca.ledger.ports import BLOCKS_PER_CRL_SHARD
from keyreeve_ca.profiles.profile import Profile
from keyreeve_ca.revocation.ports import (
    FULL_LIST,
    REVOCATIONS,
    ListState,
    Phantoms,
    PublishedList,
    SeededPhantoms,
    Shard,
    VoidBlock,
)
from keyreeve_ca.revocation.tables import phantom_blocks, revocation_head, revocation_lists, revocations
from keyreeve_ca.store.tables import authorities, control_plane, profile_versions, serial_blocks
from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.processes import failpoints
from keyreeve_chassis.trust_tables.sql import SqlTrust

_STATE = [revocation_lists.c[f.name] for f in fields(ListState) if f.name != "number"]
_PHANTOMS = [phantom_blocks.c[f.name] for f in fields(Phantoms)]
_BLOCK = serial_blocks.c
# Made once: to build a statement takes longer than to execute it.
_VOID_BLOCKS = (
    select(_BLOCK.block_id, _BLOCK.authority_id, _BLOCK.crl_shard, _BLOCK.committed, _BLOCK.size, _BLOCK.profile_hashes)
    .outerjoin(phantom_blocks, phantom_blocks.c.block_id == _BLOCK.block_id)
    .where(_BLOCK.state == "void", phantom_blocks.c.block_id.is_(None))
    .limit(bindparam("limit", type_=Integer))
)

_POSITION = select(control_plane.c.restore_generation, revocation_head.c.last_seq).join_from(
    control_plane, revocation_head, true()
)

_RESERVED = failpoints.register("ca.crl.reserve", "A number for a revocation list is about to be committed.")
_PUBLISHING = failpoints.register("ca.crl.publish", "A revocation list has been signed and is about to be committed.")


class SqlLists:
    """CRLs and phantoms in one transaction; `must_be_writable` raises in a read transaction."""

    def __init__(
        self,
        connection: Connection,
        trust: SqlTrust,
        must_be_writable: Callable[[], None],
        read_profile: Callable[[str], Profile],
    ) -> None:
        self._connection = connection
        self._trust = trust
        self._must_be_writable = must_be_writable
        self._read_profile = read_profile

    def last_seq(self) -> int:
        """The highest number assigned so far; 0 when there is none."""
        last: int = self._connection.execute(select(revocation_head.c.last_seq)).scalar_one()
        return last

    def position(self) -> tuple[int, int]:
        """The restore generation, and the highest number assigned so far, in one statement."""
        generation, last = self._connection.execute(_POSITION).one()
        return generation, last

    def shards(self) -> dict[str, int]:
        """The number of shards of each authority; at least one."""
        rows = self._connection.execute(select(authorities.c.authority_id, authorities.c.block_count))
        return {row.authority_id: max(1, -(-row.block_count // BLOCKS_PER_CRL_SHARD)) for row in rows}

    def list_states(self) -> dict[Shard, ListState]:
        """The newest CRL of each shard."""
        c = revocation_lists.c
        query = select(c.authority_id, c.crl_shard, c.published, *_STATE).where(c.published > 0)
        return {
            (row.authority_id, row.crl_shard): ListState(row.published, row.seq, row.this_update, row.next_update)
            for row in self._connection.execute(query)
        }

    def changed_shards(self, seq: int) -> dict[Shard, int]:
        """Shards with revocations or phantoms above `seq`, with the highest number of each."""
        both = union_all(
            *(
                select(t.c.authority_id, t.c.crl_shard, t.c.seq).where(t.c.seq > seq)
                for t in (revocations, phantom_blocks)
            )
        ).subquery()
        query = select(both.c.authority_id, both.c.crl_shard, func.max(both.c.seq).label("last")).group_by(
            both.c.authority_id, both.c.crl_shard
        )
        return {(row.authority_id, row.crl_shard): row.last for row in self._connection.execute(query)}

    def any_void_block(self) -> bool:
        """Whether a void block exists whose phantoms are not recorded; one statement."""
        return self._connection.execute(_VOID_BLOCKS, {"limit": 1}).first() is not None

    def void_blocks(self, limit: int) -> list[VoidBlock]:
        """Void blocks whose phantoms are not recorded."""
        return [
            VoidBlock(
                row.block_id,
                row.authority_id,
                row.crl_shard,
                row.committed,
                row.size,
                self._longest_lifetime(unpack_hashes(row.profile_hashes)),
            )
            for row in self._connection.execute(_VOID_BLOCKS, {"limit": limit}).all()
        ]

    def add_phantoms(self, found: Sequence[Phantoms]) -> None:
        """Record phantoms under new numbers."""
        self._must_be_writable()
        if found:
            first = self.take_numbers(len(found)) - len(found) + 1
            rows = [{"seq": first + n, **asdict(one)} for n, one in enumerate(found)]
            self._connection.execute(phantom_blocks.insert(), rows)

    def listed(self, shard: Shard, *, expiring_from: int, after: int, limit: int) -> list[tuple[bytes, int, str, int]]:
        """Serial number, time, reason and number of a shard's revoked certificates that expire at or after a time."""
        c = revocations.c
        query = (
            select(c.serial, c.revoked_at, c.reason, c.seq)
            .where(*_within(c, shard), c.seq > after, c.not_after >= expiring_from)
            .order_by(c.seq)
            .limit(limit)
        )
        return [(serial, when, reason, seq) for serial, when, reason, seq in self._connection.execute(query)]

    def phantoms(self, shard: Shard, *, expiring_from: int) -> list[SeededPhantoms]:
        """A shard's phantoms that could still be valid at a time."""
        c = phantom_blocks.c
        return self._seeded(*_within(c, shard), c.expires_at >= expiring_from)

    def phantoms_of_block(self, block_id: int) -> SeededPhantoms | None:
        """The phantoms of one block, if it has any."""
        return next(iter(self._seeded(phantom_blocks.c.block_id == block_id)), None)

    def _seeded(self, *conditions: ColumnElement[bool]) -> list[SeededPhantoms]:
        query = (
            select(*_PHANTOMS, serial_blocks.c.seed_id, serial_blocks.c.sealed_seed)
            .join(serial_blocks, serial_blocks.c.block_id == phantom_blocks.c.block_id)
            .where(*conditions)
        )
        return [
            SeededPhantoms(Phantoms(*row[: len(_PHANTOMS)]), row.seed_id, row.sealed_seed)
            for row in self._connection.execute(query)
        ]

    def reserve_list_number(self, shard: Shard) -> int:
        """Reserve the next CRL number of a shard; each number is used once."""
        self._must_be_writable()
        dialect: Any = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        first = dialect.insert(revocation_lists).values(
            authority_id=shard[0],
            crl_shard=shard[1],
            number=1,
            published=0,
            seq=0,
            this_update=0,
            next_update=0,
            entries=0,
        )
        number: int = self._connection.execute(
            first.on_conflict_do_update(
                index_elements=[revocation_lists.c.authority_id, revocation_lists.c.crl_shard],
                set_={"number": revocation_lists.c.number + 1},
            ).returning(revocation_lists.c.number)
        ).scalar_one()
        failpoints.hit(_RESERVED)
        return number

    def publish_list(self, shard: Shard, published: PublishedList) -> bool:
        """Replace a shard's CRL unless the stored one is newer; return whether it was replaced."""
        self._must_be_writable()
        c, state = revocation_lists.c, published.state
        failpoints.hit(_PUBLISHING)
        return (
            self._connection.execute(
                update(revocation_lists)
                .where(
                    c.authority_id == shard[0],
                    c.crl_shard == shard[1],
                    c.published < state.number,
                    c.seq <= state.seq,
                )
                .values(
                    published=state.number,
                    seq=state.seq,
                    this_update=state.this_update,
                    next_update=state.next_update,
                    entries=published.entries,
                    der=published.der,
                )
            ).rowcount
            == 1
        )

    def published_list(self, shard: Shard) -> PublishedList | None:
        """The newest CRL of a shard."""
        c = revocation_lists.c
        query = select(c.published, *_STATE, c.entries, c.der).where(
            c.authority_id == shard[0], c.crl_shard == shard[1], c.published > 0
        )
        row = self._connection.execute(query).one_or_none()
        if row is None:
            return None
        state = ListState(row.published, row.seq, row.this_update, row.next_update)
        return PublishedList(state, row.entries, row.der)

    def take_numbers(self, count: int) -> int:
        """Assign this many revocation numbers and return the last. The row stays locked until the commit."""
        touch(self._connection, REVOCATIONS)
        last: int = self._connection.execute(
            update(revocation_head)
            .values(last_seq=revocation_head.c.last_seq + count)
            .returning(revocation_head.c.last_seq)
        ).scalar_one()
        return last

    def _longest_lifetime(self, hashes: frozenset[bytes]) -> int | None:
        c = profile_versions.c
        query = select(c.sha256, c.document).where(c.sha256.in_(hashes))
        known = {row.sha256: row.document for row in self._connection.execute(query)}
        if not known or hashes - set(known):
            return None
        return max(int(self._read_profile(document).maximum_lifetime.total_seconds()) for document in known.values())


def _within(columns: Any, shard: Shard) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401  # a table's columns
    """Return the conditions for what a list covers."""
    authority_id, number = shard
    every = (columns.authority_id == authority_id,)
    return every if number == FULL_LIST else (*every, columns.crl_shard == number)
