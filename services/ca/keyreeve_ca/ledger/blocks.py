"""Serial blocks: leased before first use, closed when used up, void when their worker is gone.

Block numbers are `seconds since 2026-01-01 << 14` or the last one plus one, whichever is greater. They rise strictly
under the control plane row's lock, so a clock that goes back repeats none and new serial numbers sort after all older
ones.
"""

from collections.abc import Collection, Hashable

from sqlalchemy import ColumnElement, Connection, insert, select, update

from keyreeve.values import AuthorityState
from keyreeve_ca.certificates.serials import MAX_BLOCK_ID
from keyreeve_ca.halt.tables import issuance_halt
from keyreeve_ca.ledger.commit_rules import lock_exclusively, pack_hashes
from keyreeve_ca.ledger.ports import BLOCK_SIZE, BLOCKS, BLOCKS_PER_CRL_SHARD, BlockLease, BlockRequest, GateClosed
from keyreeve_ca.profiles.profile import PEER_CHECK
from keyreeve_ca.store.tables import authorities, control_plane, profile_versions, serial_blocks
from keyreeve_chassis.database.transactions import touch

EPOCH = 1_767_225_600
"""2026-01-01T00:00:00Z in seconds since 1970."""
SECOND_SHIFT = 14
_POSITION = (
    select(control_plane.c.block_count, serial_blocks.c.block_id, serial_blocks.c.committed)
    .join_from(control_plane, serial_blocks, serial_blocks.c.state == "open", isouter=True)
    .order_by(serial_blocks.c.block_id)
)


def lease(connection: Connection, request: BlockRequest, now: int) -> BlockLease:
    """Record an open block for an active authority; `now` in seconds since 1970. Raises `GateClosed`."""
    lock_exclusively(connection)
    if request.exemption is None and connection.scalar(select(issuance_halt.c.halted)):
        raise GateClosed("halted")
    authority = connection.execute(
        select(authorities.c.state, authorities.c.block_count)
        .where(authorities.c.authority_id == request.authority_id)
        .with_for_update()
    ).one_or_none()
    introduced = authority is not None and authority.state == AuthorityState.INTRODUCED
    if authority is None or not (introduced or authority.state == AuthorityState.ACTIVE):
        raise GateClosed("authority")
    if introduced and not _are_checks(connection, request.profile_hashes):
        raise GateClosed("profile")
    halted = select(profile_versions.c.name).where(
        profile_versions.c.halted, profile_versions.c.sha256.in_(request.profile_hashes)
    )
    if connection.execute(halted.limit(1)).first() is not None:
        raise GateClosed("profile")
    connection.execute(
        update(authorities)
        .where(authorities.c.authority_id == request.authority_id)
        .values(block_count=authority.block_count + 1)
    )
    return _insert(connection, request, "open", authority.block_count // BLOCKS_PER_CRL_SHARD, now)


def _are_checks(connection: Connection, hashes: frozenset[bytes]) -> bool:
    """Whether all hashes are of versions of the only profile of an introduced authority."""
    known = select(profile_versions.c.sha256).where(profile_versions.c.name == PEER_CHECK)
    return hashes <= set(connection.scalars(known))


def reserve(connection: Connection, request: BlockRequest, now: int) -> BlockLease:
    """Record a closed block for one CA certificate, whatever its authority's state."""
    lock_exclusively(connection)
    count = connection.scalar(
        select(authorities.c.block_count).where(authorities.c.authority_id == request.authority_id)
    )
    return _insert(connection, request, "closed", (count or 0) // BLOCKS_PER_CRL_SHARD, now)


def void(connection: Connection, condition: ColumnElement[bool]) -> int:
    """Void the open blocks that match; return how many. Nothing of a void block enters the ledger."""
    voided = connection.execute(
        update(serial_blocks).where(serial_blocks.c.state == "open", condition).values(state="void")
    ).rowcount
    if voided:
        touch(connection, BLOCKS)
    return voided


def void_by_id(connection: Connection, block_ids: Collection[int]) -> int:
    """`void` for some blocks."""
    return void(connection, serial_blocks.c.block_id.in_(block_ids))


def void_of_worker(connection: Connection, worker_id: str) -> int:
    """`void` for all blocks of a worker."""
    return void(connection, serial_blocks.c.worker_id == worker_id)


def close(connection: Connection, block_id: int, worker_id: str) -> bool:
    """Close a block that its worker no longer uses; False when it was not open or not the worker's."""
    return (
        connection.execute(
            update(serial_blocks)
            .where(
                serial_blocks.c.block_id == block_id,
                serial_blocks.c.worker_id == worker_id,
                serial_blocks.c.state == "open",
            )
            .values(state="closed")
        ).rowcount
        == 1
    )


def position(connection: Connection) -> Hashable:
    """A value that differs once a certificate has entered the ledger: how far its open blocks are, and how many there are."""
    return tuple(map(tuple, connection.execute(_POSITION)))


def _insert(connection: Connection, request: BlockRequest, state: str, crl_shard: int, now: int) -> BlockLease:
    row = connection.execute(
        select(
            control_plane.c.restore_generation, control_plane.c.last_block_id, control_plane.c.block_count
        ).with_for_update()
    ).one_or_none()
    if row is None:
        raise GateClosed("restore_generation")
    block_id = max(row.last_block_id + 1, (now - EPOCH) << SECOND_SHIFT)
    if block_id > MAX_BLOCK_ID:
        raise OverflowError(f"block number {block_id} does not fit in 46 bits: is the clock right?")
    touch(connection, BLOCKS)
    connection.execute(update(control_plane).values(last_block_id=block_id, block_count=row.block_count + 1))
    connection.execute(
        insert(serial_blocks).values(
            block_id=block_id,
            restore_generation=row.restore_generation,
            authority_id=request.authority_id,
            worker_id=request.worker_id,
            profile_hashes=pack_hashes(request.profile_hashes),
            seed_id=request.seed_id,
            sealed_seed=request.sealed_seed,
            size=BLOCK_SIZE,
            crl_shard=crl_shard,
            number=row.block_count,
            state=state,
            # Counters begin at 0; the one of a CA certificate is used up from the start.
            committed=-1 if state == "open" else 0,
            leased_at=now,
        )
    )
    return BlockLease(block_id, row.restore_generation, crl_shard)
