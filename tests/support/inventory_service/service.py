"""Items that are added, listed, watched and counted: `SPEC` is the service."""
# ruff: noqa: N802  # handlers have the names of the methods

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Table, Text, insert, select

from keyreeve.errors import FieldInvalid
from keyreeve.identity import ALL_ROLES, Role
from keyreeve_chassis.database.service_tables import service_metadata, service_tables
from keyreeve_chassis.database.service_transaction import ServiceTransaction
from keyreeve_chassis.database.storage import DatabaseContext, DatabaseStorage
from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.call import Call, caller_of
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.operations.ports import Operation, OperationState
from keyreeve_chassis.operations.servicer import operation_message
from keyreeve_chassis.operations.steps import advance_operation, ended_operation
from keyreeve_chassis.processes.solo import solo_role
from keyreeve_chassis.schema.revisions import Schema
from keyreeve_chassis.service import ServiceSpec
from keyreeve_chassis.settings.sections import DatabaseServerSettings
from support.inventory_contract import DESCRIPTOR, SERVICE, Item, ListItemsResponse

metadata = service_metadata()
TABLES = service_tables(metadata)
items = Table("items", metadata, Column("item_id", Text, primary_key=True), Column("creator", Text, nullable=False))
SCHEMA = Schema("keyreeve_membership", metadata, Path(__file__).parent / "migrations", oldest=1, newest=1)
ACCESS = {
    SERVICE + "AddItem": AccessRule(frozenset({Role.ADMIN}), forwarded=True, records=("item_id",)),
    SERVICE + "ListItems": AccessRule(ALL_ROLES),
    SERVICE + "WatchItems": AccessRule(ALL_ROLES, long_stream=True),
    SERVICE + "CountItems": AccessRule(frozenset({Role.ADMIN}), forwarded=True),
}


class InventoryTransaction(ServiceTransaction):
    """Its records: the items."""

    tables = TABLES

    def add_item(self, item_id: str, creator: str) -> Any:
        if not item_id.isalnum():
            raise FieldInvalid("item_id: letters and digits are required")
        self._write(insert(items).values(item_id=item_id, creator=creator))
        touch(self._connection, "items")
        return Item(name=item_id, creator=creator)

    def page(self, after: str, limit: int) -> Sequence[Any]:
        query = select(items).where(items.c.item_id > after).order_by(items.c.item_id).limit(limit)
        return [Item(name=row.item_id, creator=row.creator) for row in self._connection.execute(query)]


STORAGE = DatabaseStorage[DatabaseServerSettings, InventoryTransaction](SCHEMA, InventoryTransaction)
Context = DatabaseContext[DatabaseServerSettings, InventoryTransaction]


@dataclass(frozen=True)
class InventoryServicer:
    """Serves InventoryService."""

    context: Context

    async def AddItem(self, request: Any, call: Call) -> Any:
        creator = str(caller_of(call))
        return await self.context.mutations(call, request, lambda tx: tx.add_item(request.item_id, creator))

    async def ListItems(self, request: Any, call: Call) -> Any:
        page = self.context.pages.open(call, request)
        found = await self.context.store.read(lambda tx: tx.page(page.after, page.size + 1))
        last = found[page.size - 1].name if len(found) > page.size else None
        return ListItemsResponse(items=found[: page.size], next_page_token=page.next_token(last))

    async def WatchItems(self, request: Any, call: Call) -> AsyncIterator[Any]:
        after, wait = "", self.context.topics.follower("items")
        while True:
            await wait(60.0)
            for item in await self.context.store.read(lambda tx, after=after: tx.page(after, 100)):
                after = item.name
                yield item

    async def CountItems(self, request: Any, call: Call) -> Any:
        operation = Operation.begin(call.method, str(caller_of(call)), "counting", {}, self.context.now())
        message = operation_message(operation)
        return await self.context.mutations(call, request, lambda tx: tx.operations.add(operation) or message)


async def count_step(context: Context, store: Any, before: Operation) -> float:
    """Count a page of items."""

    def count(tx: InventoryTransaction) -> None:
        found, now = tx.page(before.position.decode(), 10), context.now()
        after = ended_operation(before, OperationState.SUCCEEDED, now)
        if found:
            after = replace(before, position=found[-1].name.encode(), done=before.done + len(found), updated_at=now)
        advance_operation(tx, before, after, now)

    await store.write(count)
    return 0.0


def routers(context: Context) -> list[ServedService]:
    """Its RPC service."""
    return [ServedService(DESCRIPTOR, InventoryServicer(context), ACCESS)]


def jobs(context: Context) -> list[Any]:
    """Its background work."""
    return [context.operation_runner({SERVICE + "CountItems": partial(count_step, context)}).run()]


SPEC = ServiceSpec(
    "membership", DatabaseServerSettings, (solo_role(STORAGE),), jobs, routers, schema=STORAGE, look=STORAGE.look
)
