"""What resolution reads: the port to its records, and a launch as it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from keyreeve_credentials.entries.names import ObjectName
from keyreeve_credentials.entries.ports import Entry, EntryTransaction
from keyreeve_credentials.launch_settings.ports import LaunchSettingTransaction
from keyreeve_credentials.objects.ports import ObjectTransaction

MOST_ENTRIES = 500
"""Entries of a user that one decision looks at."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A launch by its names."""

    array_id: str
    owner: ObjectName
    application: ObjectName
    application_server: ObjectName
    profile: ObjectName | None
    """None: the owner's, if there is one of that name."""
    server: str
    """Whose launch settings apply; empty: the array's."""
    shift_click: bool = False
    third_party: bool = False


class LaunchRecords(Protocol):
    """The records of one transaction."""

    def entries_of(self, array_id: str, owner: ObjectName, server: ObjectName, limit: int) -> Sequence[Entry]:
        """The owner's entries for a server and for Windows domains, and the login password."""
        ...


class LaunchTransaction(EntryTransaction, ObjectTransaction, LaunchSettingTransaction, Protocol):
    """A transaction that holds what a decision needs."""

    @property
    def launches(self) -> LaunchRecords: ...
