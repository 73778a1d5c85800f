"""The port to a service's database: transactions that commit whole or not at all."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")
TxT_co = TypeVar("TxT_co", covariant=True)


class Store(Protocol[TxT_co]):
    """Runs transactions: `write` serializably on the writer, `read` on a snapshot in which writing methods raise.

    A read that says that it executes `one_statement` alone costs less. Both raise `StoreUnavailable`.
    """

    async def read(self, work: Callable[[TxT_co], T], *, one_statement: bool = False) -> T: ...
    async def write(self, work: Callable[[TxT_co], T]) -> T: ...
