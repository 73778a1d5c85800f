"""What each authority has in hand on one worker: its blocks of serial numbers, and the claims that wait to be committed.

The two durable steps of the signing path meet here. A block is on disk before its first number is used; whatever arrives
during one commit forms the next group, and groups of a queue are committed one at a time, so that counters reach the
ledger in the order in which they were used.

An authority has two commit queues, each with a block: long requests are signed in parts, and while one is half signed the counters
of its queue are unavailable. A short request takes the other queue and waits for neither its signatures nor its commit.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from keyreeve import errors
from keyreeve_ca import metrics
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot, IssuingAuthority
from keyreeve_ca.ledger.ports import (
    MAX_UNCOMMITTED,
    BlockRequest,
    CommitGroup,
    Committed,
    GateClosed,
    InProcess,
    IssuedCertificate,
    ItemFailure,
    Ledger,
    RequestClaim,
    RequestOutcome,
    SerialBlock,
)
from keyreeve_chassis.keys.ports import KeyStore

MAX_GROUP = 512
"""Certificates in one commit: enough to spread its cost, few enough to keep it short."""
MAX_GROUP_BYTES = 4 * 1024 * 1024
"""Of one commit: large requests of one caller must not make a group that the way to the writer cannot carry."""
MAX_FAILURE_CHARACTERS = 2000
"""Of what is kept of one refused item: 100 of them stay far below the 4 MiB that gRPC's clients accept."""


@dataclass(slots=True)
class CommitQueue:
    """One block, the next counter of it, and what waits to be committed."""

    block: SerialBlock | None = None
    counter: int = 0
    stored: int = -1
    """The last counter of the block that is in the ledger."""
    left: dict[int, int] = field(default_factory=dict)
    """Blocks that are used no further, with the last counter of each that waits to be committed."""
    uncommitted: int = 0
    waiting: deque["_Pending"] = field(default_factory=deque)
    committing: asyncio.Task[None] | None = None
    signing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from the choice of a block until the claim waits: counters wait in the order in which they were used."""
    room: asyncio.Event = field(default_factory=asyncio.Event)

    def next_counter(self) -> int:
        """A counter of the block. It is used up whatever happens next: no other certificate gets its serial number."""
        self.counter += 1
        return self.counter - 1


@dataclass(frozen=True, slots=True)
class _Pending:
    block: SerialBlock
    last_counter: int
    size: int
    """Serial numbers that the claim has used."""
    weight: int
    """Bytes that it brings into the ledger, roughly."""
    profile_hashes: frozenset[bytes]
    claim: RequestClaim
    done: "asyncio.Future[RequestOutcome]"


@dataclass
class CommitQueues:
    """Commit queues of one worker. Not frozen: it holds blocks and waiting claims."""

    snapshot: Callable[[], IssuanceSnapshot]
    ledger: Ledger
    keystore: KeyStore
    worker_id: str
    random: Callable[[int], bytes]
    used: dict[tuple[str, bool], CommitQueue] = field(default_factory=dict)
    """By authority, and whether for long requests."""

    def of(self, authority_id: str, *, long: bool = False) -> CommitQueue:
        """Commit queue of an authority for long or for short requests."""
        return self.used.setdefault((authority_id, long), CommitQueue())

    async def block_with_room(
        self,
        commit_queue: CommitQueue,
        issuing: IssuingAuthority,
        hashes: frozenset[bytes],
        size: int,
        *,
        exemption: InProcess | None,
    ) -> SerialBlock:
        """The queue's block, or a new one on disk when it has no room for `size` numbers or does not pin these profiles.

        Hold `commit_queue.signing` until the numbers are used and the claim is enqueued. Raises `GateClosed`.
        """
        while commit_queue.uncommitted + size > MAX_UNCOMMITTED:
            commit_queue.room.clear()
            await commit_queue.room.wait()
        if not self._usable(commit_queue, hashes, size):
            await self._leave_block(commit_queue, await self._lease(issuing, hashes, exemption=exemption))
        assert commit_queue.block is not None
        return commit_queue.block

    def enqueue(
        self, commit_queue: CommitQueue, block: SerialBlock, size: int, hashes: frozenset[bytes], claim: RequestClaim
    ) -> "asyncio.Future[RequestOutcome]":
        """Let a claim, which used `size` serial numbers, wait for the next commit; the future has its outcome."""
        done: asyncio.Future[RequestOutcome] = asyncio.get_running_loop().create_future()
        commit_queue.uncommitted += size
        commit_queue.waiting.append(
            _Pending(block, commit_queue.counter - 1, size, _weight(claim), hashes, claim, done)
        )
        if commit_queue.committing is None:
            commit_queue.committing = asyncio.create_task(self._commit_all(commit_queue))
        return done

    async def close_blocks(self) -> None:
        """Close the blocks in hand at an orderly end.

        A block that is left open counts as crashed, and what may have been signed in it as revoked.
        """
        for commit_queue in self.used.values():
            await self._leave_block(commit_queue, None)

    async def _leave_block(self, commit_queue: CommitQueue, following: SerialBlock | None) -> None:
        """Use another block from now on; the one before is closed once all that was signed in it is stored."""
        block, last, stored = commit_queue.block, commit_queue.counter - 1, commit_queue.stored
        commit_queue.block, commit_queue.counter, commit_queue.stored = following, 0, -1
        if block is None:
            return
        if stored == last:
            await self._close(block.block_id)
        else:
            commit_queue.left[block.block_id] = last

    async def _close(self, block_id: int) -> None:
        with suppress(errors.KeyreeveError):  # it stays open, and counts as crashed when this process ends
            await self.ledger.close_block(block_id, self.worker_id)

    def _usable(self, commit_queue: CommitQueue, hashes: frozenset[bytes], size: int) -> bool:
        block = commit_queue.block
        return (
            block is not None
            and commit_queue.counter + size <= block.size
            and hashes <= block.profile_hashes
            and block.restore_generation == self.snapshot().restore_generation
        )

    async def _lease(
        self, issuing: IssuingAuthority, hashes: frozenset[bytes], *, exemption: InProcess | None
    ) -> SerialBlock:
        seed, seed_id = self.random(32), self.random(16).hex()
        pinned = self.snapshot().profile_hashes(issuing) | hashes
        authority_id = issuing.issuer.authority_id
        lease = await self.ledger.lease_block(
            BlockRequest(
                authority_id,
                self.worker_id,
                pinned,
                seed_id,
                self.keystore.seal("seed", seed_id, seed),
                exemption=exemption,
            )
        )
        metrics.BLOCKS_LEASED.labels(authority_id).inc()
        return SerialBlock(
            block_id=lease.block_id,
            restore_generation=lease.restore_generation,
            authority_id=authority_id,
            worker_id=self.worker_id,
            profile_hashes=pinned,
            seed=seed,
            crl_shard=lease.crl_shard,
        )

    async def _commit_all(self, commit_queue: CommitQueue) -> None:
        """Commit what waits, group after group, one at a time so that counters reach the ledger in order."""
        try:
            while commit_queue.waiting:
                group = _take_group(commit_queue.waiting)
                await self._commit(commit_queue, group)
                block_id, last = group[-1].block.block_id, group[-1].last_counter
                if commit_queue.left.get(block_id) == last:
                    del commit_queue.left[block_id]
                    await self._close(block_id)
        finally:
            # When this task is cancelled, the waiting requests fail instead of hanging.
            commit_queue.committing = None
            while commit_queue.waiting:
                commit_queue.waiting.popleft().done.cancel()

    async def _commit(self, commit_queue: CommitQueue, group: list[_Pending]) -> None:
        first = group[0].block
        commit = CommitGroup(
            group_id=self.random(16),
            worker_id=self.worker_id,
            block_id=first.block_id,
            restore_generation=first.restore_generation,
            authority_id=first.authority_id,
            profile_hashes=frozenset().union(*(p.profile_hashes for p in group)),
            last_counter=group[-1].last_counter,
            requests=tuple(p.claim for p in group),
        )
        failure: BaseException | None = None
        outcomes: Sequence[RequestOutcome] = ()
        try:
            outcomes = await self._commit_or_look_up(commit)
        except Exception as refused:  # noqa: BLE001 - each request of the group answers it; the groups behind go on
            failure = refused
        except asyncio.CancelledError as ended:
            failure = ended
            raise
        finally:
            commit_queue.uncommitted -= sum(p.size for p in group)
            commit_queue.room.set()
            if failure is None:
                if commit_queue.block is first:
                    commit_queue.stored = commit.last_counter
            else:
                # Its counters are no longer known to be in order, and what was signed in it is not stored: it stays open.
                commit_queue.left.pop(first.block_id, None)
                if commit_queue.block is first:
                    commit_queue.block = None
                for pending in group:
                    pending.done.set_exception(failure)
            for pending, outcome in zip(group, outcomes, strict=False):
                pending.done.set_result(outcome)

    async def _commit_or_look_up(self, commit: CommitGroup) -> Sequence[RequestOutcome]:
        """Commit; when no answer comes, ask what became of the group before anyone is answered."""
        began = time.perf_counter()
        try:
            outcomes = await self.ledger.commit(commit)
        except GateClosed as closed:
            metrics.GROUPS_REFUSED.labels(closed.why).inc()
            raise
        except errors.StoreUnavailable:
            found = await self.ledger.find_group(commit.group_id)
            if found is None:
                raise
            return found
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - began)
        _count(commit, outcomes)
        return outcomes


def _take_group(waiting: deque[_Pending]) -> list[_Pending]:
    """The longest run of waiting requests of one block, up to `MAX_GROUP` certificates and `MAX_GROUP_BYTES`."""
    group = [waiting.popleft()]
    size, weight = group[0].size, group[0].weight
    while waiting and waiting[0].block is group[0].block:
        size, weight = size + waiting[0].size, weight + waiting[0].weight
        if size > MAX_GROUP or weight > MAX_GROUP_BYTES:
            break
        group.append(waiting.popleft())
    return group


def _count(group: CommitGroup, outcomes: Sequence[RequestOutcome]) -> None:
    """Count what is in the ledger now."""
    by_profile = Counter(
        item.profile_name
        for claim, outcome in zip(group.requests, outcomes, strict=True)
        if isinstance(outcome, Committed)
        for item, result in zip(claim.items, outcome.items, strict=True)
        if isinstance(item, IssuedCertificate) and isinstance(result, bytes)
    )
    for profile, number in by_profile.items():
        metrics.ISSUED.labels(group.authority_id, profile).inc(number)
    metrics.GROUP_CERTIFICATES.observe(by_profile.total())


def _weight(claim: RequestClaim) -> int:
    weight = len(claim.audit)
    for item in claim.items:
        if isinstance(item, ItemFailure):
            weight += MAX_FAILURE_CHARACTERS
        else:
            weight += len(item.der) + len(item.csr) + len(item.requested_sans) + len(item.ignored) + 512
    return weight
