"""Writes the records of calls without a transaction of their own: reads, refusals, failures, and system events.

Records that arrive during a commit form the next one, so they share its cost. Where calls arrive close together a record
waits some milliseconds for others; a single one does not. A call waits for its record before it is answered: when that
takes too long, it fails with AUDIT_UNAVAILABLE instead.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from keyreeve.audit.record import Pairs, Record
from keyreeve.errors import AuditUnavailable, KeyreeveError

MOST_SECONDS = 2.0
MOST_RECORDS = 512
"""Most records in one commit."""
MOST_WAITING = 8_192
MAX_BATCH_DELAY_SECONDS = 0.01
"""Time a record waits for others after a commit of several: fewer, larger commits cost less."""
BUSY_SECONDS = 0.05
"""Time after such a commit in which others are expected."""

_log = structlog.get_logger(__name__)

Write = Callable[[Sequence[bytes]], Awaitable[None]]
"""Commits records as one link; raises a `KeyreeveError` when it cannot."""


class Recorder:
    """Groups audit records and commits them."""

    def __init__(
        self, write: Write, *, seconds: float = MOST_SECONDS, max_batch_delay: float = MAX_BATCH_DELAY_SECONDS
    ) -> None:
        """Take the commit function, its timeout, and how long to wait for more records under load."""
        self._write = write
        self._seconds = seconds
        self._max_batch_delay = max_batch_delay
        self._waiting: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._writing: asyncio.Task[None] | None = None
        self._busy_until = 0.0

    async def record(self, record: bytes) -> None:
        """Commit the record. Raises `AuditUnavailable` when no result arrives in time."""
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
        """Wait for pending records."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=self._seconds)

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if loop.time() < self._busy_until:
                    await asyncio.sleep(self._max_batch_delay)
                taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_RECORDS))]
                # A caller that has timed out was told that there is no record, so none may be written.
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
        except Exception:  # noqa: BLE001  # no call may be answered without a record, whatever went wrong
            _log.exception("writing audit records failed")
            failure = AuditUnavailable("the record could not be written")
        for _, done in batch:
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)


def system_event(act: str, now: int, results: Pairs) -> bytes:
    """The record of an event such as `recover`; append it to the event's transaction.

    `now` is in seconds since 1970.
    """
    return Record(
        method=f"keyreeve/{act}",
        caller="",
        credential="",
        subject="",
        peer="unix:local",
        tls="",
        time=now * 1000,
        request_id="",
        call_id="",
        targets=(),
        code="OK",
        reason="",
        results=results,
        calls=1,
    ).encode()
