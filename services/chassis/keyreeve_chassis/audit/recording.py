"""Writing the records of calls that commit nothing by themselves: reads, refusals, failures.

Records that arrive while a commit is under way form the next one, so their price is shared; where calls come close together
a record waits some milliseconds for others, and one that comes alone does not. A call waits for its record
before it is answered: when that takes too long it is answered AUDIT_UNAVAILABLE instead.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from keyreeve.errors import AuditUnavailable, KeyreeveError

MOST_SECONDS = 2.0
MOST_RECORDS = 512
"""In one commit."""
MOST_WAITING = 8_192
GATHER_SECONDS = 0.01
"""How long a record waits for company when the commit before had several: fewer, larger commits cost everybody less."""
BUSY_SECONDS = 0.05
"""How long after such a commit company is expected."""

_log = structlog.get_logger(__name__)

Write = Callable[[Sequence[bytes]], Awaitable[None]]
"""Commits records as one link; raises a `KeyreeveError` when it cannot."""


class Recorder:
    """Groups records and has them committed."""

    def __init__(self, write: Write, *, seconds: float = MOST_SECONDS, gather_seconds: float = GATHER_SECONDS) -> None:
        """Take what commits, how long a call waits for it, and how long for others when there are some."""
        self._write = write
        self._seconds = seconds
        self._gather_seconds = gather_seconds
        self._waiting: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._busy_until = 0.0

    async def record(self, record: bytes) -> None:
        """Return when the record is on disk. Raises `AuditUnavailable` when nothing is known of it in time."""
        if len(self._waiting) >= MOST_WAITING:
            raise AuditUnavailable(f"{len(self._waiting)} records wait to be written")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())
        try:
            async with asyncio.timeout(self._seconds):
                await done
        except TimeoutError:
            raise AuditUnavailable(f"the record was not written within {self._seconds:g} s") from None

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=self._seconds)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if loop.time() < self._busy_until:
                    await asyncio.sleep(self._gather_seconds)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_RECORDS))]
                # Whoever has given up was told that there is no record, so there must not be one.
                batch = [(record, done) for record, done in taken if not done.done()]
                if batch:
                    await self._write_batch(batch)
                    self._busy_until = loop.time() + BUSY_SECONDS if len(batch) > 1 else 0.0
        finally:
            self._writing = None

    async def _write_batch(self, batch: list[tuple[bytes, "asyncio.Future[None]"]]) -> None:
        failure: AuditUnavailable | None = None
        try:
            async with asyncio.timeout(self._seconds):
                await self._write([record for record, _ in batch])
        except TimeoutError:
            failure = AuditUnavailable(f"the record was not written within {self._seconds:g} s")
        except KeyreeveError as error:
            failure = AuditUnavailable(f"the record could not be written: {error.message}")
        except Exception:  # noqa: BLE001  # nobody may be answered without a record, whatever went wrong
            _log.exception("writing audit records failed")
            failure = AuditUnavailable("the record could not be written")
        for _, done in batch:
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)
