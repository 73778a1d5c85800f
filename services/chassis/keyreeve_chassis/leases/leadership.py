"""Leadership: one process at a time does a piece of work, and one that has lost its lease can commit nothing more."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.leases.ports import Lease, LeaseLost, LeaseStore, LeaseTransaction

T = TypeVar("T")
TxT = TypeVar("TxT", bound=LeaseTransaction)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FencedStore(Generic[TxT]):
    """A leader's store: each write first locks the leader's lease, and raises `LeaseLost` without it."""

    store: LeaseStore[TxT]
    lease: Lease

    async def read(self, work: Callable[[TxT], T], *, one_statement: bool = False) -> T:
        """Run `work` on a snapshot."""
        return await self.store.read(work, one_statement=one_statement)

    async def write(self, work: Callable[[TxT], T]) -> T:
        """Run `work` and commit it, under the lease."""
        return await self.store.write(self._fenced(work))

    async def write_beside(self, work: Callable[[TxT], T]) -> T:
        """`write` that keeps no other transaction out."""
        return await self.store.write_beside(self._fenced(work))

    def _fenced(self, work: Callable[[TxT], T]) -> Callable[[TxT], T]:
        def fenced(tx: TxT) -> T:
            tx.leases.check(self.lease)
            return work(tx)

        return fenced


@dataclass(frozen=True)
class Leadership(Generic[TxT]):
    """Runs work in the process that holds the lease `name`."""

    store: LeaseStore[TxT]
    name: str
    owner: str
    """Names this process in the lease."""
    seconds: float = 5.0
    """Lease time in seconds: how long a dead leader blocks the next one. Longer than any transaction of the work, which the
    renewal waits for."""
    alone: bool = False
    """No other process can have the database open (SQLite): what is left of a lease is that of a process that ended."""
    clock: Callable[[], float] = time.monotonic

    async def lead(self, work: Callable[[Store[TxT]], Awaitable[None]]) -> bool:
        """Run `work` under the lease; return False when another process holds it, or has acquired it meanwhile.

        The store that `work` gets commits nothing without the lease. `work` is cancelled when the lease is lost. Raises
        `StoreUnavailable`, and what `work` raises.
        """
        if not self.alone and await self.store.read(self._is_held, one_statement=True):
            return False
        nonce, asked = f"{self.owner}#{secrets.token_hex(8)}", self.clock()
        try:
            lease = await _completed(self.store.write_beside(lambda tx: self._acquire(tx, nonce)))
            if lease is None:
                return False
            log.debug("leads %s with fence %s", lease.name, lease.fence)
            await self._hold(lease, asked + self.seconds, work)
        except LeaseLost as lost:
            log.warning("leads no longer: %s", lost)
            return False
        else:
            return True
        finally:
            await self._release(nonce)

    async def _hold(self, lease: Lease, expiry: float, work: Callable[[Store[TxT]], Awaitable[None]]) -> None:
        working = asyncio.ensure_future(work(FencedStore(self.store, lease)))
        renewing = asyncio.ensure_future(self._renew(lease, expiry))
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            ended = working if working.done() else renewing
        finally:
            working.cancel()
            renewing.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
        ended.result()

    async def _renew(self, lease: Lease, expiry: float) -> None:
        """Renew the lease at a third of its time; raise `LeaseLost` when that has failed until its `expiry`."""
        while (asked := self.clock()) < expiry:
            try:
                async with asyncio.timeout(expiry - asked):
                    await asyncio.sleep(self.seconds / 3)
                    asked = self.clock()
                    await self.store.write_beside(lambda tx: tx.leases.renew(lease, self.seconds))
                expiry = asked + self.seconds
            except StoreUnavailable as unavailable:
                log.warning("the lease %s was not renewed: %s", lease.name, unavailable)
            except TimeoutError:
                break
        raise LeaseLost(f"the lease {lease.name!r} was not renewed for {self.seconds} s")

    async def _release(self, nonce: str) -> None:
        releasing = asyncio.ensure_future(self.store.write_beside(lambda tx: tx.leases.release(self.name, nonce)))
        await asyncio.wait({releasing}, timeout=self.seconds)
        if not releasing.done() or isinstance(releasing.exception(), StoreUnavailable):
            log.info("the lease %s was not released, and expires", self.name)
            return
        releasing.result()

    def _acquire(self, tx: TxT, nonce: str) -> Lease | None:
        return tx.leases.acquire(self.name, nonce, self.seconds, take_over=self.alone)

    def _is_held(self, tx: TxT) -> bool:
        return tx.leases.current(self.name) is not None


async def _completed(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, also when the caller is cancelled meanwhile: a lease that was acquired must be released."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
