"""The port to the stored settings."""

from typing import Protocol


class SettingRecords(Protocol):
    """The settings in one transaction. An owner is an array's resource name."""

    def of(self, owner: str) -> dict[str, str]:
        """The settings that were changed, by name."""
        ...

    def put(self, owner: str, name: str, value: str) -> None: ...


class SettingTransaction(Protocol):
    """A transaction that holds settings."""

    @property
    def settings(self) -> SettingRecords: ...
