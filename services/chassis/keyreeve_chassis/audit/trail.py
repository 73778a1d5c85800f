"""One call's record: when it is written, by whom, and that it is written once.

A call that changes something entrusts its record to the transaction of the change (`entrust`), so that neither exists
without the other; for every other call the guard writes it before it answers. Refusals of callers without an identity, and those
for load, are counted instead: one record for each second, so that unauthenticated clients cannot fill the disk, and a
caller that ignores what it is told keeps nobody else's records waiting. Of a request, a record keeps the fields that the
method's row lists, and no others (`targets_of`).
"""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from keyreeve.audit import record as records
from keyreeve.audit.record import Pairs, Record
from keyreeve.errors import AuditUnavailable, KeyreeveError, TooManyConnections, TooManyInFlight
from keyreeve.identity import Caller
from keyreeve_chassis.audit.recording import Recorder
from keyreeve_chassis.guard.call import AuditRecord, Call

MOST_PEERS = 1_000
"""Different refusals counted in one second; what comes on top is counted under the peer `*` and no method."""
FOR_LOAD = (TooManyInFlight, TooManyConnections)
"""What the audit log only counts: a hundred times what is answered can be refused, and each record is a part of a commit."""
_SETTLE_SECONDS = 2.0
_CACHED_PREFIXES = 4_096
MOST_VALUES = 200
"""Of one request."""
STANDARD = ("name", "parent")
_HEX_BYTES = 32

Targets = Callable[[Message], tuple[str, Pairs]]
"""The request's own id, and (path, value) for each field that it sets."""
_Read = Callable[[Any], Iterator[str]]

_log = structlog.get_logger(__name__)


class CallRecord:
    """The audit record of one call in progress."""

    __slots__ = ("_call", "_targets", "_trail", "about", "entrusted", "handed_in", "head", "time", "unread")

    def __init__(self, trail: "Trail", call: Call, targets: Targets) -> None:
        """Take the call; `targets` finds the request id and the resources in the message."""
        self._trail = trail
        self._call = call
        self._targets = targets
        self.entrusted: asyncio.Future[Any] | None = None
        """The transaction that commits the record: it is written if and only if this gets a result."""
        self.head = b""
        """The record without its outcome, for a transaction that commits it; empty until `prepare`."""
        self.about: Pairs = ()
        """What the call turned out to be about, beside the fields of its request."""
        self.time = trail.now()
        self.unread: Callable[[], Message] | None = None
        """Reads the request of a call that another process answers, should its record be written here after all."""
        self.handed_in = False
        """The record has been given to the writer: there will be no second one."""

    def prepare(self) -> None:
        """Make the head (keyreeve/audit/record.py)."""
        call = self._call
        if call.message is None and self.unread is not None:
            with suppress(KeyreeveError):
                call.message = self.unread()
        request_id, targets = self._targets(call.message) if call.message is not None else ("", ())
        prefix = self._trail.prefix(call)
        self.head = records.head(prefix, self.time, request_id, call.request_id, (*targets, *self.about))

    def tell(self, field: str, value: str) -> None:
        """Add to the call's resources; never a secret."""
        self.about = (*self.about, (field, records.clean(value)))
        if self.head:
            self.prepare()

    def of_success(self, results: Pairs = ()) -> bytes:
        """Return the whole record of a call that succeeds, for the transaction that commits it (`committed_with`)."""
        self.prepare()
        return self.head + records.tail("OK", "", results)

    async def written_elsewhere(self) -> bool:
        """Whether a transaction has committed the record; waits until that is known."""
        done = self.entrusted
        if done is None:
            return False
        if not done.done():
            await asyncio.wait({done}, timeout=_SETTLE_SECONDS)
            if not done.done():
                return True  # it is with a commit that has not ended; two records would be worse than one that is late
        return self.entrusted is not None and not done.cancelled() and done.exception() is None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What refusals that are counted together have in common. Strings as in `Record`."""

    second: int
    peer: str
    method: str
    caller: str
    subject: str
    code: str
    reason: str


class Trail:
    """The audit trail of one process."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        gate: Callable[[], None] | None = None,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Take the recorder; `gate` raises `AuditUnavailable` while mutations are refused.

        `now` is in milliseconds since 1970.
        """
        self._recorder = recorder
        self.gate = gate
        self.now = now
        self._prefixes: dict[tuple[str, str, int, str, str], tuple[Caller | None, bytes]] = {}
        self._refused: Counter[_Refusal] = Counter()
        self._flush: asyncio.TimerHandle | None = None
        self._background: set[asyncio.Task[None]] = set()

    def prefix(self, call: Call) -> bytes:
        """The constant part of the records of one caller and method."""
        caller = call.caller
        tls = call.tls.version
        subject = "" if call.subject is None else str(call.subject)
        key = (call.method, call.peer, caller.serial if caller is not None else 0, tls, subject)
        known = self._prefixes.get(key)
        if known is not None and known[0] is caller:
            return known[1]
        who, credential = ("", "") if caller is None else (str(caller), f"{caller.serial:x}")
        made = records.prefix(records.clean(call.method), who, credential, subject=subject, peer=call.peer, tls=tls)
        if len(self._prefixes) >= _CACHED_PREFIXES:
            self._prefixes.clear()
        self._prefixes[key] = (caller, made)
        return made

    async def succeeded(self, record: AuditRecord) -> None:
        """Record a call before it is answered. Raises `AuditUnavailable`: then it must not be answered."""
        if record.handed_in or await record.written_elsewhere():
            return
        await self._write(record, records.tail("OK"))

    async def failed(self, record: AuditRecord, call: Call, error: KeyreeveError) -> None:
        """Record a failed or refused call before its caller learns of it."""
        if record.handed_in:
            return
        if call.caller is None or (record.entrusted is None and isinstance(error, FOR_LOAD)):
            self._count(call, error)
            return
        if not await record.written_elsewhere():
            await self._write(record, records.tail(error.code, error.reason))

    def cancelled(self, record: AuditRecord, call: Call, code: str) -> None:
        """Record a cancelled call; no caller waits for it."""
        if record.handed_in or call.caller is None:
            return

        async def write() -> None:
            if await record.written_elsewhere():
                return
            try:
                await self._write(record, records.tail(code))
            except AuditUnavailable as lost:
                _log.error("a cancelled call left no audit record", method=call.method, error=lost.message)

        task = asyncio.create_task(write())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Write pending records."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush_now()
        while self._background:
            await asyncio.wait(self._background)
        await self._recorder.close()

    async def _write(self, record: AuditRecord, tail: bytes) -> None:
        record.handed_in = True
        if not record.head:
            record.prepare()
        await self._recorder.record(record.head + tail)

    # --- Refusals that are counted ---------------------------------------------------------------------------------

    def _count(self, call: Call, error: KeyreeveError) -> None:
        now = self.now() // 1000
        who, subject = str(call.caller or ""), str(call.subject or "")
        method = records.clean(call.method) if call.caller is not None else ""
        key = _Refusal(now, _host(call.peer), method, who, subject, error.code, error.reason)
        if key not in self._refused and len(self._refused) >= MOST_PEERS:
            key = replace(key, peer="*", method="")
        self._refused[key] += 1
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(1.0, self._flush_now)

    def _flush_now(self) -> None:
        """Write the counts of past seconds."""
        self._flush = None
        counts, self._refused = self._refused, Counter()
        for one, count in counts.items():
            made = Record(
                method=one.method,
                caller=one.caller,
                credential="",
                subject=one.subject,
                peer=one.peer,
                tls="",
                time=one.second * 1000,
                request_id="",
                call_id="",
                targets=(),
                code=one.code,
                reason=one.reason,
                results=(),
                calls=count,
            )
            task = asyncio.create_task(self._write_counted(made))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _write_counted(self, made: Record) -> None:
        try:
            await self._recorder.record(made.encode())
        except AuditUnavailable as lost:
            _log.error("refusals left no audit record", peer=made.peer, calls=made.calls, error=lost.message)


def _host(peer: str) -> str:
    """The host of a transport address, without its port."""
    return peer.rpartition(":")[0] if peer.startswith(("ipv4:", "ipv6:")) else peer


@functools.cache
def targets_of(request: Descriptor, paths: tuple[str, ...]) -> Targets:
    """Build the target reader of one method. Raises `LookupError` for a path that the request lacks."""
    chosen = [p for p in paths if p in request.fields_by_name] if paths == STANDARD else paths
    readers = [(path, _reader(request, path.split("."), path)) for path in chosen]
    has_id = "request_id" in request.fields_by_name

    def read(message: Any) -> tuple[str, Pairs]:  # noqa: ANN401  # any request
        found: dict[tuple[str, str], None] = {}
        for path, reader in readers:
            for value in reader(message):
                if value and len(found) < MOST_VALUES:
                    found[path, records.clean(value)] = None
        return records.clean(message.request_id) if has_id else "", tuple(found)

    return read


def _reader(message: Descriptor, path: Sequence[str], whole: str) -> _Read:
    field = message.fields_by_name.get(path[0])
    if field is None:
        raise LookupError(f"{whole} is to be recorded, and {message.full_name} has no {path[0]}")
    show = _shown(field, path, whole)
    name = field.name
    if field.is_repeated:
        return lambda m: (text for each in getattr(m, name) for text in show(each))
    if field.message_type is not None:
        return lambda m: show(getattr(m, name)) if m.HasField(name) else iter(())
    return lambda m: show(getattr(m, name))


def _shown(field: FieldDescriptor, path: Sequence[str], whole: str) -> _Read:
    if field.message_type is not None:
        if len(path) == 1:
            raise LookupError(f"{whole} is a message: name the fields of it that are to be recorded")
        return _reader(field.message_type, path[1:], whole)
    if len(path) > 1:
        raise LookupError(f"{whole} goes on behind a plain value")
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return lambda v: iter((names[v].name if v in names else str(v),) if v else ())
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda v: iter((v[:_HEX_BYTES].hex(),))
    if field.type == FieldDescriptor.TYPE_STRING:
        return lambda v: iter((v,))
    return lambda v: iter((str(v),) if v else ())
