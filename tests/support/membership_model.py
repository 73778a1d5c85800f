"""Membership's transactions on a database in memory, and CAs at whose orders a leader may die or sleep."""

import asyncio
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, create_engine, insert
from sqlalchemy.pool import StaticPool

from fakes.array_authorities import FakeArrayAuthorities
from keyreeve_chassis.keys.sealed import SealedKeyStore
from keyreeve_chassis.trust_tables.seals import Seals
from keyreeve_membership.authorities.ports import ArrayAuthority, KeyType, Order
from keyreeve_membership.store.sql import MembershipTransaction
from keyreeve_membership.store.tables import SERVICE_TABLES, metadata, roll_state

SEALS = Seals.of(SealedKeyStore(b"k" * 32, "test"))


class Crashed(Exception):
    """The leader's process has died."""


class Store:
    """The service's transactions on an SQLite database in memory."""

    def __init__(self) -> None:
        self.now = 1_000
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self.engine)
        state = {"id": 1, "trust_domain": "example.test", "restore_generation": 1, "key_check": b"", "created_at": 0}
        with self.engine.begin() as connection:
            connection.execute(insert(SERVICE_TABLES.state).values(**state))
            connection.execute(insert(roll_state).values(id=1, revision=0))
        self.here(lambda tx: tx.trust.seal())

    def here(self, work: Callable[[MembershipTransaction], Any]) -> Any:
        with self.engine.begin() as connection:
            tx = self._transaction(connection)
            found = work(tx)
            tx.complete()
            return found

    async def write(self, work: Callable[[Any], Any]) -> Any:
        return self.here(work)

    async def read(self, work: Callable[[Any], Any], *, one_statement: bool = False) -> Any:
        return self.here(work)

    async def write_beside(self, work: Callable[[Any], Any]) -> Any:
        return self.here(work)

    def _transaction(self, connection: Connection) -> MembershipTransaction:
        return MembershipTransaction(connection, now=self.now, writable=True, seals=SEALS)


class Authorities(FakeArrayAuthorities):
    """The CAs, at whose orders a leader may die or sleep, and which check I1 and I2 at each."""

    crash_in: int = -1
    after: bool = False
    asleep: asyncio.Event | None = None
    check: Callable[[str, str], None] = lambda _what, _authority: None
    """Told of each order that changes something, before it does."""

    async def create(self, order: Order, authority_id: str, common_name: str, key_type: KeyType) -> ArrayAuthority:
        return await self._ordered(
            lambda: FakeArrayAuthorities.create(self, order, authority_id, common_name, key_type)
        )

    async def introduce(self, order: Order, authority_id: str) -> ArrayAuthority:
        return await self._ordered(lambda: FakeArrayAuthorities.introduce(self, order, authority_id))

    async def activate(self, order: Order, authority_id: str) -> ArrayAuthority:
        async def checked() -> ArrayAuthority:
            found = await FakeArrayAuthorities.activate(self, order, authority_id)
            self.check("activate", authority_id)
            return found

        return await self._ordered(checked)

    async def retire(self, order: Order, authority_id: str) -> ArrayAuthority:
        return await self._ordered(lambda: FakeArrayAuthorities.retire(self, order, authority_id))

    async def destroy(self, order: Order, authority_id: str) -> ArrayAuthority:
        async def checked() -> ArrayAuthority:
            found = await FakeArrayAuthorities.destroy(self, order, authority_id)
            self.check("destroy", authority_id)
            return found

        return await self._ordered(checked)

    async def _ordered(self, act: Any) -> Any:
        if self.asleep is not None:
            await self.asleep.wait()
        self.crash_in -= 1
        if self.crash_in == 0 and not self.after:
            raise Crashed
        found = await act()
        if self.crash_in == 0:
            raise Crashed
        return found
