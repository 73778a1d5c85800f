"""Revoking everything that fits a predicate, in steps: each a transaction that also says how far the work has come.

A step walks the ledger in order of serial number. It reads outside the transaction, since finding a few among millions
takes long and the signing path must not wait for that. Whatever dies, the next step begins where the last committed one
ended, and nothing is revoked twice. A step is as large as what the signing path should wait for at most.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from keyreeve import errors
from keyreeve.identity import Caller, Role
from keyreeve_ca.profiles.profile import Hierarchy
from keyreeve_ca.revocation.ports import CrlReason, NewRevocation
from keyreeve_ca.store.ports import CertificateFilter, CertificatePage, Store, Transaction
from keyreeve_chassis.operations.ports import Operation, OperationState

METHOD = "/keyreeve.ca.v1.CertificateService/RevokeCertificates"
STEP = 50
"""Certificates of one step at the most."""
_LEAST = 25
"""And at the least: below that a commit costs more than what is in it."""
_AIM = 0.002
"""Seconds that a step's transaction should take: the signing path waits for it."""
_SHARE = 3.0
"""Pause after a step, as a multiple of the time that it took with all its reading: the rest belongs to others."""
_LONGEST = 0.1
"""Seconds of a pause at the most: a disk that stands still for a second must not stop the revoking for three more."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Predicate:
    """Which certificates; what is None does not matter. Times are seconds since 1970."""

    authority_id: str | None = None
    profile_name: str | None = None
    identity: str | None = None
    caller: str | None = None
    issued_from: int | None = None
    issued_before: int | None = None

    def filter(self, now: int) -> CertificateFilter:
        """Those of them that are good now."""
        return CertificateFilter(**asdict(self), valid_at=now, revoked=False)


@dataclass(frozen=True)
class BulkRevocation:
    """The use case behind RevokeCertificates, and the work that it begins."""

    store: Store
    now: Callable[[], int]
    clock: Callable[[], float] = time.perf_counter

    def begin(self, tx: Transaction, caller: Caller, predicate: Predicate, reason: CrlReason) -> Operation:
        """Record the work. Raises `FieldInvalid`, `AuthorityNotFound`, `ProfileNotFound`, `AccessDenied`."""
        if predicate == Predicate():
            raise errors.FieldInvalid("at least one condition is required: without any, everything would be revoked")
        hierarchy = None if predicate.authority_id is None else tx.authority(predicate.authority_id).hierarchy
        if predicate.profile_name is not None:
            tx.profile(predicate.profile_name)
        if caller.role is Role.MEMBERSHIP and hierarchy is not Hierarchy.STANDALONE:
            raise errors.AccessDenied(
                "the membership service may revoke only what an authority with an owner has signed",
                metadata={"allowed": Role.ADMIN.value},
            )
        arguments = {**asdict(predicate), "reason": reason.value}
        made = Operation.begin(METHOD, str(caller), "counting", arguments, self.now())
        tx.operations.add(made)
        return made

    async def run(self, interval: float) -> None:
        """Do what has been begun, now and after each restart, for ever."""
        size = STEP
        while True:
            began = self.clock()
            try:
                worked = await self.step(min(size, STEP))
            except errors.StoreUnavailable as unavailable:
                log.warning("operations wait: %s", unavailable)
                worked = None
            if worked is not None:
                size = next_size(size, worked)
            await asyncio.sleep(interval if worked is None else min((self.clock() - began) * _SHARE, _LONGEST))

    async def step(self, size: int) -> float | None:
        """One step of the oldest operation; the seconds that its transaction took up the writer, None: there is none."""
        if not await self.store.read(lambda tx: tx.operations.running(), one_statement=True):
            return None  # as almost always
        found = await self.store.read(lambda tx: self._look(tx, size))
        if found is None:
            return None
        operation, after, page = found
        worked: list[float] = []

        def work(tx: Transaction) -> None:
            began = self.clock()
            if page is None:
                self._replace(tx, operation, after)
            else:
                self._revoke(tx, operation, page)
            worked.append(self.clock() - began)

        await self.store.write(work)
        return worked[-1]

    def _look(self, tx: Transaction, size: int) -> tuple[Operation, Operation, CertificatePage | None] | None:
        """The oldest operation, what it becomes when counting was all there was to do, and what to revoke otherwise."""
        running = tx.operations.running()
        if not running:
            return None
        operation = running[0]
        wanted = _predicate(operation).filter(self.now())
        if operation.phase != "counting":
            return operation, operation, tx.certificate_page(wanted, after=operation.position, limit=size)
        more, at = tx.count_certificates(wanted, after=operation.position)
        counted = replace(
            operation,
            phase="revoking" if at is None else "counting",
            position=at or b"",
            total=operation.total + more,
            updated_at=self.now(),
        )
        return operation, counted, None

    def _revoke(self, tx: Transaction, operation: Operation, page: CertificatePage) -> None:
        now, reason = self.now(), CrlReason(operation.arguments["reason"])
        before = tx.revocations.of([row.serial for row in page.rows])
        new = [
            NewRevocation(row.serial, row.authority_id, row.not_after, reason, now, operation.creator)
            for row in page.rows
            if row.serial not in before
        ]
        done = operation.done + len(new)
        after = replace(operation, done=done, total=max(done, operation.total), updated_at=now)
        if page.next is not None:
            after = replace(after, position=page.next)
        else:
            after = replace(after, state=OperationState.SUCCEEDED, phase="done", total=done, ended_at=now)
        if self._replace(tx, operation, after):
            tx.revocations.add(new)

    def _replace(self, tx: Transaction, before: Operation, after: Operation) -> bool:
        """Store how far it has come; False when it is not where it was, or is to end: then nothing else may be done."""
        found, now = tx.operations.get(before.operation_id), self.now()
        if found is None or replace(found, cancel_requested=False) != replace(before, cancel_requested=False):
            return False  # another coordinator has been at it
        if found.cancel_requested:
            tx.operations.update(replace(found, state=OperationState.CANCELLED, updated_at=now, ended_at=now))
            return False
        tx.operations.update(after)
        return True


def next_size(size: int, worked: float) -> int:
    """Certificates of the next step, when one of `size` took up the writer for so many seconds."""
    fitting = STEP if worked <= 0 else size * _AIM / worked
    return max(min(_LEAST, STEP), min(STEP, round((size + fitting) / 2)))


def _predicate(operation: Operation) -> Predicate:
    return Predicate(**{name: value for name, value in operation.arguments.items() if name != "reason"})
