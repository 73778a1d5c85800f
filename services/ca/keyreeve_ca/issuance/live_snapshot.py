"""The snapshot of a running process: read at start, reloaded when authorities or profiles change."""

import asyncio
from collections.abc import Callable

from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.changes.following import follow_changes
from keyreeve_chassis.database.ports import Wait

SNAPSHOT = "snapshot"
"""Topic of this process's own snapshot: it is announced when the new one has been read."""


class LiveSnapshot:
    """Holds the newest snapshot. `load` gets the previous one and runs in the store's threads."""

    def __init__(self, store: Store, load: Callable[[Transaction, IssuanceSnapshot | None], IssuanceSnapshot]) -> None:
        self._store = store
        self._load = load
        self._current: IssuanceSnapshot | None = None
        self._changed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None

    def current(self) -> IssuanceSnapshot:
        """The newest snapshot; call `reload` once before."""
        assert self._current is not None, "the snapshot is read before anything is served"
        return self._current

    async def reload(self) -> None:
        """Load a new snapshot; concurrent callers share one load."""
        if self._next is None:
            self._next = asyncio.create_task(self._read_next())
        await asyncio.shield(self._next)

    async def _read_next(self) -> None:
        async with self._reading:
            self._next = None  # later callers may know of a newer version than this load reads
            self._current = await self._store.read(lambda tx: self._load(tx, self._current))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed_since(self, config_version: int) -> None:
        """Return once the version is no longer the given one."""
        while self.current().config_version == config_version:
            await self._changed.wait()

    async def follow(self, wait: Wait) -> None:
        """Reload whenever the configuration version or the restore generation changes, forever.

        An error other than an unreachable database ends this job, and with it the process: its snapshot would go stale
        unnoticed.
        """
        await follow_changes("the snapshot", wait, self._reload_if_changed)

    async def _reload_if_changed(self) -> None:
        control_plane = await self._store.read(lambda tx: tx.control_plane(), one_statement=True)
        known = self.current()
        if control_plane is not None and (control_plane.config_version, control_plane.restore_generation) != (
            known.config_version,
            known.restore_generation,
        ):
            await self.reload()
