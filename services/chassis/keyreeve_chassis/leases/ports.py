"""Leases in a service's database: values, and the ports to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from keyreeve_chassis.database.ports import Store

T = TypeVar("T")
TxT_co = TypeVar("TxT_co", covariant=True)


class LeaseLost(Exception):
    """The lease has expired, or another owner has acquired it: nothing may be written under it."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to lead what `name` stands for, until it expires by the database's clock."""

    name: str
    fence: int
    """Rises with each acquisition of the name, and never falls."""
    owner_nonce: str
    """Different for each attempt to acquire."""


class Leases(Protocol):
    """The leases in one transaction (`Transaction.leases`).

    Each writing method is one statement, which locks the lease's row to the end of the transaction.
    """

    def current(self, name: str) -> Lease | None:
        """Return the lease that has not expired; one statement."""
        ...

    def acquire(self, name: str, owner_nonce: str, seconds: float, *, take_over: bool = False) -> Lease | None:
        """Acquire the lease when there is none or it has expired, or in any case to `take_over`; else return None."""
        ...

    def renew(self, lease: Lease, seconds: float) -> None:
        """Let the lease expire in so many seconds from now. Raises `LeaseLost`."""
        ...

    def check(self, lease: Lease) -> None:
        """Lock the lease against acquisition until this transaction ends. Raises `LeaseLost`."""
        ...

    def release(self, name: str, owner_nonce: str) -> None:
        """Let the lease expire now if this owner has it; its fence stays."""
        ...


class LeaseTransaction(Protocol):
    """A transaction of a database with leases."""

    @property
    def leases(self) -> Leases: ...


class LeaseStore(Store[TxT_co], Protocol[TxT_co]):
    """A store that leases are kept in."""

    async def write_beside(self, work: Callable[[TxT_co], T]) -> T:
        """`write` that keeps no other transaction out: for statements each of which is safe beside any other."""
        ...
