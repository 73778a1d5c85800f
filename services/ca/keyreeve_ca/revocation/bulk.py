"""Revoking everything that fits a predicate, in steps: each a transaction that also says how far the work has come.

A step walks the ledger in order of serial number. It reads outside the transaction, since finding a few among millions
takes long and the signing path must not wait for that. Whatever dies, the next step begins where the last committed one
ended, and nothing is revoked twice.
Of compromised keys, the lines of renewals go, too. A step is as large as what the signing path should wait for at most.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from keyreeve import errors
from keyreeve.identity import Caller, Role
from keyreeve.values import CrlReason, Hierarchy
from keyreeve_ca.revocation.ports import NewRevocation
from keyreeve_ca.revocation.service import line_of
from keyreeve_ca.store.ports import CertificateFilter, CertificatePage, Transaction
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.operations.steps import Step, advance_operation, ended_operation

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

    def step(self) -> Step[Transaction]:
        """What the operation runner runs; a step is as large as the one before it was fast."""
        size = STEP

        async def revoke_some(store: Store[Transaction], operation: Operation) -> float:
            nonlocal size
            began = self.clock()
            size = next_size(size, await self._step(store, operation, min(size, STEP)))
            return min((self.clock() - began) * _SHARE, _LONGEST)

        return revoke_some

    async def _step(self, store: Store[Transaction], operation: Operation, size: int) -> float:
        """One step; the seconds that its transaction took up the writer."""
        after, page = await store.read(lambda tx: self._look(tx, operation, size))
        worked: list[float] = []

        def work(tx: Transaction) -> None:
            began = self.clock()
            if page is None:
                advance_operation(tx, operation, after, self.now())
            else:
                self._revoke(tx, operation, page)
            worked.append(self.clock() - began)

        await store.write(work)
        return worked[-1]

    def _look(self, tx: Transaction, operation: Operation, size: int) -> tuple[Operation, CertificatePage | None]:
        """What the operation becomes when counting is all there is to do, and what to revoke otherwise."""
        wanted = _predicate(operation).filter(self.now())
        if operation.phase != "counting":
            return operation, tx.certificate_page(wanted, after=operation.position, limit=size)
        more, at = tx.count_certificates(wanted, after=operation.position)
        counted = replace(
            operation,
            phase="revoking" if at is None else "counting",
            position=at or b"",
            total=operation.total + more,
            updated_at=self.now(),
        )
        return counted, None

    def _revoke(self, tx: Transaction, operation: Operation, page: CertificatePage) -> None:
        now, reason = self.now(), CrlReason(operation.arguments["reason"])
        rows = {row.serial: row for row in page.rows}
        if reason is CrlReason.KEY_COMPROMISE:
            rows |= {one.serial: one for row in page.rows for one in line_of(tx, row) if one.not_after >= now}
        before = tx.revocations.of(list(rows))
        new = [
            NewRevocation(row.serial, row.authority_id, row.not_after, reason, now, operation.creator)
            for row in rows.values()
            if row.serial not in before
        ]
        done = operation.done + len(new)
        after = replace(operation, done=done, total=max(done, operation.total), updated_at=now)
        if page.next is not None:
            after = replace(after, position=page.next)
        else:
            after = replace(ended_operation(after, OperationState.SUCCEEDED, now), phase="done", total=done)
        if advance_operation(tx, operation, after, now):
            tx.revocations.add(new)


def next_size(size: int, worked: float) -> int:
    """Certificates of the next step, when one of `size` took up the writer for so many seconds."""
    fitting = STEP if worked <= 0 else size * _AIM / worked
    return max(min(_LEAST, STEP), min(STEP, round((size + fitting) / 2)))


def _predicate(operation: Operation) -> Predicate:
    return Predicate(**{name: value for name, value in operation.arguments.items() if name != "reason"})
