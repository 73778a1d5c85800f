"""Certificates as they are revoked: for admins all, for others their own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from keyreeve_ca.revocation.ports import Revocation
from keyreeve_ca.store.ports import StoredCertificate, Transaction
from keyreeve_chassis.changes.shared_reads import SharedReads

PAGE = 100
"""Certificates in one update: as many as in a batch of signatures, so that it is below 4 MiB."""
_WATCH_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RevokedCertificates:
    """What was revoked up to a number."""

    restore_generation: int
    seq: int
    certificates: tuple[tuple[StoredCertificate, Revocation], ...] = ()
    """In order of revocation; without those that retention has removed."""
    complete: bool = True
    """Whether `seq` is the newest number."""


@dataclass(frozen=True)
class RevocationWatches:
    """Answers WatchRevokedCertificates; streams that are up to date share their reads."""

    reads: SharedReads[Transaction]

    async def watch(
        self,
        position: tuple[int, int],
        may_see: Callable[[StoredCertificate], bool],
        in_turn: Callable[[Callable[[], Awaitable[RevokedCertificates]]], Awaitable[RevokedCertificates]],
    ) -> AsyncIterator[RevokedCertificates]:
        """Updates after a restore generation and number, or from now on when the number is 0.

        Pages of the past are read `in_turn`.
        """
        generation, after = position[0], position[1] or None
        wait, first, behind = self.reads.follower(), True, after is not None
        while True:
            page = partial(self.reads.read, after, partial(_read, after))
            found = await (in_turn(page) if behind else page())
            if first and after is not None and (found.restore_generation != generation or after > found.seq):
                after = None  # of another history
                continue
            seen = tuple(one for one in found.certificates if may_see(one[0]))
            if seen or first or not found.complete:
                yield RevokedCertificates(found.restore_generation, found.seq, seen)
            after, first, behind = found.seq, False, not found.complete
            if found.complete:
                await wait(_WATCH_SECONDS)


def _read(after: int | None, tx: Transaction) -> RevokedCertificates:
    """A page of what was revoked after a number; None: the position alone."""
    generation, last = tx.revocations.position()
    if after is None or after >= last:
        return RevokedCertificates(generation, last)
    revoked = tx.revocations.revoked_after(after, PAGE)
    complete = len(revoked) < PAGE
    stored = tx.certificates_by_serial([one.serial for one in revoked])
    found = tuple((stored[one.serial], one) for one in revoked if one.serial in stored)
    return RevokedCertificates(generation, last if complete else revoked[-1].seq, found, complete)
