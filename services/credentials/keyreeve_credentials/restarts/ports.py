"""Restarts of members as the use case sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of a member, as it last reported it."""

    array_id: str
    member_uid: str
    boot_id: str
    """Random id of this start."""


class Boots(Protocol):
    """The members' present starts."""

    async def present(self) -> Sequence[Boot]:
        """Those of all members that have reported. Raises `keyreeve.errors.KeyreeveError`."""
        ...


class BootRecords(Protocol):
    """The records of one transaction."""

    def known(self) -> Mapping[str, str]:
        """The last known boot id of each member, by its uid."""
        ...

    def put(self, boot: Boot) -> None: ...
    def request(self, array_id: str, now: int) -> None:
        """Ask for a new key of an array; another request of it is the same one."""
        ...

    def requests(self) -> Sequence[str]:
        """The arrays of which a new key is asked for, the oldest request first."""
        ...

    def withdraw(self, array_id: str) -> None: ...
