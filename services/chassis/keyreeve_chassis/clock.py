"""The time of day as a port: whatever decides by the date takes a `Clock`, so that tests can move it."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day."""

    def seconds(self) -> int:
        """Whole seconds since 1970-01-01T00:00:00Z, rounded down: the resolution of a certificate's validity."""

    def moment(self) -> datetime:
        """The same with microseconds, in UTC."""


class SystemClock:
    """The machine's clock."""

    def seconds(self) -> int:
        """Whole seconds since 1970-01-01T00:00:00Z."""
        return int(time.time())

    def moment(self) -> datetime:
        """The time of day in UTC."""
        return datetime.now(UTC)
