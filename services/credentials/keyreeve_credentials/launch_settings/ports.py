"""The port to the records of launch settings."""

from collections.abc import Mapping
from typing import Protocol

ARRAY = ""
"""Stands for the array itself where a server is named."""


class LaunchSettingRecords(Protocol):
    """The records of one transaction."""

    def read(self, array_id: str, server: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Return the texts of the settings of an array and of one of its servers."""
        ...

    def put(self, array_id: str, server: str, name: str, text: str) -> None:
        """Set a setting."""
        ...

    def remove(self, array_id: str, server: str, name: str) -> None:
        """Remove a setting; one that is not set stays so."""
        ...


class LaunchSettingTransaction(Protocol):
    """A transaction that holds launch settings."""

    @property
    def launch_settings(self) -> LaunchSettingRecords: ...
