"""What this process knows of altered trust tables: looked for at the start, at each reload, and all the time.

At a reload, tables whose heads list their rows are read whole, and the MACs in others of up to `COUNTED` rows are compared
with their heads. All tables are read whole every minute, less often where that takes longer than 0.6 s.

A difference stays until the tables are sealed anew. It is logged once, counted in a metric, and refused with by the use
cases that must not go on (`TrustWatch.refuse`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol, TypeVar

from prometheus_client import Gauge

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.trust_tables.ports import Alteration, TrustRecords, table_altered

PASS_SECONDS = 60.0
"""Between two readings of all tables."""
_SHARE = 100
"""A reading that takes long is repeated after so many times its duration."""
COUNTED = 10_000
"""Rows of a table whose MACs are compared with its head at a reload: about 20 ms."""
_NAMED = 10

ALTERED = Gauge(
    "keyreeve_trust_table_alterations",
    "Rows and tables that something other than the service has changed.",
    multiprocess_mode="livemax",
)

log = logging.getLogger(__name__)
T = TypeVar("T")


class HasTrust(Protocol):
    """A transaction with trust tables."""

    @property
    def trust(self) -> TrustRecords: ...


class TrustWatch:
    """What is altered, as far as this process knows. Not frozen: it is what the process has seen last."""

    def __init__(self, listed: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        """`listed` names the tables that `look` reads: those whose heads list their rows."""
        self._listed = frozenset(listed)
        self._clock = clock
        self.found: tuple[Alteration, ...] = ()
        """What is altered; asked for every certificate."""
        self._began = False

    @property
    def alterations(self) -> tuple[Alteration, ...]:
        """What is altered, as `found`, which the signing path reads without a call."""
        return self.found

    def refuse(self) -> None:
        """Raise `TrustTableAltered` while something is."""
        if self.found:
            raise table_altered(self.found)

    def look(self, tx: HasTrust) -> frozenset[tuple[str, str]]:
        """Read the listed tables, at first all, and count others; return (table, key) of what must not be believed."""
        others = [one for one in self.found if not self._is_listed(one)]
        # What was found in the other tables may have been accepted meanwhile.
        whole = bool(others) or not self._began
        found = list(tx.trust.verify(None if whole else self._listed))
        if not whole:
            found += [one for one in tx.trust.rows_differ(most=COUNTED) if one not in found]
        self._know(found)
        return frozenset((one.table, one.key) for one in found)

    def look_at_all(self, tx: HasTrust) -> None:
        """Read every table."""
        self._know(tx.trust.verify())

    async def examine(self, store: Store[HasTrust]) -> Sequence[Alteration]:
        """Read the tables as at a reload, and return everything that is known to be altered."""
        await store.read(self.look)
        return self.found

    async def run(self, store: Store[HasTrust]) -> None:
        """Read every table now and then, forever."""
        pause = PASS_SECONDS
        while True:
            await asyncio.sleep(pause)
            began = self._clock()
            try:
                await store.read(self.look_at_all)
            except StoreUnavailable as unavailable:
                log.warning("the trust tables could not be read: %s", unavailable)
            pause = max(PASS_SECONDS, _SHARE * (self._clock() - began))

    def _is_listed(self, one: Alteration) -> bool:
        return one.table in self._listed or one.table == "*"

    def _know(self, found: Sequence[Alteration]) -> None:
        new = [one for one in found if one not in self.found]
        for one in new[:_NAMED]:
            log.error("a trust table was altered by something other than the service: %s", one)
        if len(new) > _NAMED:
            log.error("%d more rows of trust tables were altered", len(new) - _NAMED)
        if self.found and not found:
            log.warning("the trust tables are whole again")
        self.found, self._began = tuple(found), True
        ALTERED.set(len(found))
