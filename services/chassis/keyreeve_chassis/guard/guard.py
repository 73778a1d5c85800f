"""What every call passes on its way to a handler, in one order for all methods:

failures (outermost) > audit > telemetry > limits > identity > access > deadline > reading the request > the handler.

No call is answered before its audit record is on disk: a change commits it together with what it does, and for
everything else it is written here. There is exactly one for each call (docs/audit.md has the few exceptions).
Nothing of a request is read before its caller is known and allowed: the server hands over raw bytes, and asks `check`
at the headers of a call whose request has not arrived yet. There are no interceptors, since a chain that is assembled
elsewhere is a chain that can lack a link.
"""

import asyncio
import time
from collections.abc import AsyncIterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from keyreeve.errors import (
    AuditUnavailable,
    DeadlineRequired,
    FieldInvalid,
    KeyreeveError,
    MethodUnknown,
    TicketRefused,
)
from keyreeve.identity import SERVICE_ROLES, Caller
from keyreeve.ticket_key import TICKET_KEY
from keyreeve_chassis.audit.trail import CallRecord, Trail
from keyreeve_chassis.guard import failures
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.admission import ConcurrentReads, ConnectionsPerPeer, FairShare, GuardLimits, InFlight
from keyreeve_chassis.guard.call import AuthContext, Call, Context, let_go
from keyreeve_chassis.guard.peers import PeerVerifier
from keyreeve_chassis.guard.route import Route, ServeStream, ServeUnary
from keyreeve_chassis.guard.router import Kind, Method, Router, check_access
from keyreeve_chassis.telemetry.calls import CallTelemetry, MethodTelemetry
from keyreeve_chassis.tickets.verification import Mandate, TicketVerifier

_DEADLINE_SLACK_SECONDS = 1.0
"""gRPC rounds a timeout up on the wire, and the two ends read their clocks at different moments."""

_FOR_SERVICES = 8
"""Which part of the streams of a process only services may open: what they follow is what all others depend on."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Stay:
    """Until when a stream goes on, and on whose behalf."""

    ends: float
    """On the scale of `time.monotonic`."""
    mandate: Mandate | None


class Guard:
    """Stands in front of each method of a router."""

    def __init__(
        self,
        router: Router,
        verifier: PeerVerifier | None,
        limits: GuardLimits | None = None,
        telemetry: CallTelemetry | None = None,
        trail: Trail | None = None,
        *,
        tickets: TicketVerifier | None = None,
    ) -> None:
        """Take what to serve. Without a verifier no caller has an identity, so only methods open to anyone answer.

        Without a trail nothing is recorded: a listener for health alone. Without `tickets` none is accepted.
        """
        self._tickets = tickets
        self._trail = trail
        self._router = router
        self._verifier = verifier
        self._limits = limits or GuardLimits()
        self._telemetry = telemetry or CallTelemetry()
        retry_after = timedelta(seconds=self._limits.retry_after)
        self._calls = InFlight(self._limits.calls_in_flight, retry_after)
        self._shares = FairShare("calls", self._limits.calls_in_flight, retry_after)
        self._concurrent_reads = ConcurrentReads()
        """Changes are not limited like this: the database queues them, and signatures are batched in rotation over the callers."""
        self._streams = InFlight(self._limits.streams_in_flight, retry_after)
        self._connections = ConnectionsPerPeer(self._limits.connections_per_peer)
        self._stopping = asyncio.Event()
        self._stream_shares = FairShare("streams", self._limits.streams_in_flight, retry_after)
        self._unknown = self._telemetry.of(Kind.UNARY, "unknown", "unknown")
        self._routes = {name: self._route(method) for name, method in router.methods.items()}

    @property
    def in_flight(self) -> int:
        """Calls and streams in progress."""
        return self._calls.count + self._streams.count

    def stop(self) -> None:
        """Refuse new calls with `ServiceStopping` and end the open streams with it; calls in progress go on."""
        self._stopping.set()

    def route(self, name: str) -> Route:
        """Return how to run the calls of a method, by its exact name; unknown ones are refused by what is returned."""
        return self._routes.get(name) or self._unknown_route(name)

    def _route(self, method: Method) -> Route:
        telemetry = self._telemetry.of(method.kind, method.service, method.rpc)
        unary = self._unary(method, telemetry) if method.kind is Kind.UNARY else None
        stream = None if method.kind is Kind.UNARY else self._streaming(method, telemetry)
        check, refuse = partial(self._check, method), partial(self._refuse, method, telemetry)
        return Route(method.kind, unary, stream, check, refuse, self._most_bytes(method))

    def _most_bytes(self, method: Method) -> int:
        most = self._limits.request_bytes
        return most if method.row.batches else min(most, self._limits.single_request_bytes)

    def _check(self, method: Method, context: Context) -> KeyreeveError | None:
        try:
            self._refuse_when_stopping()
            if not method.row.anyone:
                caller = self._identify(context.auth)
                mandate = self._mandate(caller, context, method.name)
                check_access(self._router.rows, caller, method.name, None if mandate is None else mandate.subject)
                self._check_freshness(method.row)
            if not method.row.long_stream:
                self._refuse_far_deadline(method.name, context)
        except KeyreeveError as refused:
            return refused
        return None

    async def _refuse(
        self, method: Method, telemetry: MethodTelemetry, error: KeyreeveError, context: Context
    ) -> failures.Refusal | None:
        call = _call(method.name, context)
        began = time.perf_counter()
        telemetry.begin()
        self._begin_record(method, call)
        try:
            call.caller = None if method.row.anyone else self._identify(context.auth)
            if call.caller is not None and (mandate := self._mandate(call.caller, context, method.name)) is not None:
                call.subject = mandate.subject
        except KeyreeveError:
            """The record then names no caller, or nobody on whose behalf it calls."""
        return await self._end(error, call, context, telemetry, began)

    def _unary(self, method: Method, telemetry: MethodTelemetry) -> ServeUnary:
        async def serve(request: bytes, context: Context) -> bytes | failures.Refusal:
            call = _call(method.name, context)
            began = time.perf_counter()
            telemetry.begin()
            self._begin_record(method, call)
            try:
                response = await self._run_unary(method, request, call, context)
            except BaseException as failure:
                refusal = await self._end(failure, call, context, telemetry, began)
                if refusal is None:
                    raise
                return refusal
            let_go(call)
            telemetry.succeed(call, time.perf_counter() - began)
            return response

        return serve

    async def _run_unary(self, method: Method, request: bytes, call: Call, context: Context) -> bytes:
        self._refuse_when_stopping()
        self._calls.enter()
        counted: Caller | None = None
        shared: Caller | None = None
        try:
            self._admit(method.row, call, context)
            if call.caller is not None:
                self._connections.enter(call.caller, call.peer)
                counted = call.caller
                charged = call.subject or call.caller
                self._shares.enter(charged.id.path)
                shared = charged
            call.deadline = self._deadline(call, context)
            self._refuse_when_too_large(method, request)
            self._refuse_when_not_audited(method)
            if method.row.forwarded and call.record is not None:
                call.record.unread = partial(method.parse, request)
            # At the deadline the server cancels this task.
            if shared is None or method.mutates:
                return await self._answer(method, request, call)
            async with self._concurrent_reads.take(shared.id.path):
                return await self._answer(method, request, call)
        finally:
            self._calls.leave()
            if counted is not None:
                self._connections.leave(counted, call.peer)
            if shared is not None:
                self._shares.leave(shared.id.path)

    async def _answer(self, method: Method, request: bytes, call: Call) -> bytes:
        if (tracer := self._telemetry.tracer) is None:
            response = await self._router.respond(method, request, call)
        else:
            with tracer.span(call):
                response = await self._router.respond(method, request, call)
        if call.record is not None and self._trail is not None:
            await self._trail.succeeded(call.record)
        return response

    def _streaming(self, method: Method, telemetry: MethodTelemetry) -> ServeStream:
        async def serve(request: bytes | AsyncIterable[bytes], context: Context) -> failures.Refusal | None:
            call = _call(method.name, context)
            began = time.perf_counter()
            telemetry.begin()
            self._begin_record(method, call)
            try:
                await self._run_stream(method, request, call, context)
            except BaseException as failure:
                refusal = await self._end(failure, call, context, telemetry, began)
                if refusal is None:
                    raise
                return refusal
            let_go(call)
            telemetry.succeed(call, time.perf_counter() - began)
            return None

        return serve

    async def _run_stream(
        self, method: Method, request: bytes | AsyncIterable[bytes], call: Call, context: Context
    ) -> None:
        self._refuse_when_stopping()
        self._streams.enter()
        counted: Caller | None = None
        shared: Caller | None = None
        try:
            mandate = self._admit(method.row, call, context)
            if call.caller is not None:
                self._connections.enter(call.caller, call.peer)
                counted = call.caller
                charged = call.subject or call.caller
                if charged.role not in SERVICE_ROLES:
                    self._streams.keep_free(self._limits.streams_in_flight // _FOR_SERVICES)
                self._stream_shares.enter(charged.id.path)
                shared = charged
            ends = time.monotonic() + self._limits.stream_life
            if mandate is not None and self._tickets is not None and method.row.long_stream:
                ends = min(ends, time.monotonic() + self._tickets.remaining(mandate))
            if method.row.long_stream:
                remaining = context.time_remaining()
                call.deadline = None if remaining is None else time.monotonic() + remaining
            else:
                call.deadline = self._deadline(call, context)
            if isinstance(request, bytes):
                self._refuse_when_too_large(method, request)
            self._refuse_when_not_audited(method)
            tracer = self._telemetry.tracer
            with tracer.span(call) if tracer is not None else nullcontext():
                await self._pump(method, request, call, context, _Stay(ends, mandate))
            if call.record is not None and self._trail is not None:
                await self._trail.succeeded(call.record)
        finally:
            self._streams.leave()
            if counted is not None:
                self._connections.leave(counted, call.peer)
            if shared is not None:
                self._stream_shares.leave(shared.id.path)

    async def _pump(
        self,
        method: Method,
        request: bytes | AsyncIterable[bytes],
        call: Call,
        context: Context,
        stay: "_Stay",
    ) -> None:
        """Send the stream while its caller stays who it was; returns at the stream's end or at the end of its life."""

        # What only tells something is recorded before its first word; a dialogue, which decides something, at its end.
        trail = self._trail if method.row.long_stream or method.kind is not Kind.BIDI_STREAM else None

        async def send() -> None:
            async for response in self._router.respond_stream(method, request, call):
                if trail is not None and call.record is not None and not call.record.handed_in:
                    await trail.succeeded(call.record)
                await context.write(response)

        work = asyncio.create_task(send())
        stopping = asyncio.create_task(self._stopping.wait())
        refused_at: float | None = None
        # The sender may wait for a slow reader as long as it likes: what ends the stream is decided beside it.
        try:
            while True:
                now = time.monotonic()
                if now >= stay.ends:
                    return None
                if call.deadline is not None and now >= call.deadline:
                    raise failures.deadline_passed(call)
                # At multiples of the interval: the streams of a process at rest wake it up together.
                wait = min(self._limits.verify_interval - now % self._limits.verify_interval, stay.ends - now)
                if call.deadline is not None:
                    wait = min(wait, call.deadline - now)
                await asyncio.wait({work, stopping}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
                if stopping.done():
                    raise failures.service_stopping()
                if call.caller is None:
                    continue
                try:
                    check_access(self._router.rows, self._identify(context.auth), call.method, call.subject)
                    if stay.mandate is not None and self._tickets is not None:
                        self._tickets.check_session(stay.mandate)
                    self._check_freshness(method.row)
                    refused_at = None
                except KeyreeveError:
                    refused_at = now if refused_at is None else refused_at
                    if now - refused_at >= method.row.linger:
                        raise
        finally:
            stopping.cancel()
            work.cancel()
            await asyncio.wait({work, stopping})
            if not work.cancelled() and (left := work.exception()) is not None:
                _log.debug("a stream's handler ended with an error", method=call.method, error=repr(left))

    def _admit(self, row: AccessRule, call: Call, context: Context) -> Mandate | None:
        """Find out who calls, on whose behalf, and whether they may."""
        if row.anyone:
            return None
        auth: AuthContext = context.auth
        call.tls = auth
        call.caller = self._identify(auth)
        mandate = self._mandate(call.caller, context, call.method)
        if mandate is not None:
            call.subject, call.session = mandate.subject, mandate.contents.session
        check_access(self._router.rows, call.caller, call.method, call.subject)
        self._check_freshness(row)
        return mandate

    def _mandate(self, caller: Caller, context: Context, method: str) -> Mandate | None:
        """Read the call's ticket; None: it carries none."""
        if not any(key == TICKET_KEY for key, _ in context.metadata):
            return None
        if self._tickets is None:
            raise TicketRefused("this listener accepts no tickets", metadata={"why": "listener"})
        return self._tickets.verify(caller, context.metadata, method)

    def _check_freshness(self, row: AccessRule) -> None:
        if self._verifier is not None:
            self._verifier.check_freshness(row.freshness)

    def _identify(self, auth: AuthContext) -> Caller:
        if self._verifier is None:
            raise MethodUnknown("this listener serves nothing that needs an identity")
        pem = auth.get("x509_pem_cert")
        return self._verifier.verify(next(iter(pem)) if pem else None)

    def _begin_record(self, method: Method, call: Call) -> None:
        if self._trail is not None and not method.row.unrecorded:
            call.record = CallRecord(self._trail, call, method.targets)

    def _refuse_when_not_audited(self, method: Method) -> None:
        """Nothing is changed, and no secret revealed, while what must witness the audit does not."""
        if (method.mutates or method.row.reveals) and self._trail is not None and self._trail.gate is not None:
            self._trail.gate()

    def _deadline(self, call: Call, context: Context) -> float:
        remaining = self._refuse_far_deadline(call.method, context)
        if remaining <= 0:
            raise failures.deadline_passed(call)
        return time.monotonic() + remaining

    def _refuse_far_deadline(self, method: str, context: Context) -> float:
        remaining = context.time_remaining()
        most = self._limits.deadline
        if remaining is None or remaining > most + _DEADLINE_SLACK_SECONDS:
            had = "no deadline" if remaining is None else f"a deadline {remaining:.0f} s away"
            raise DeadlineRequired(
                f"{method} was called with {had}; set one of at most {most:g} s",
                metadata={"max_seconds": f"{most:g}"},
            )
        return remaining

    def _refuse_when_stopping(self) -> None:
        if self._stopping.is_set():
            raise failures.service_stopping()

    def _refuse_when_too_large(self, method: Method, request: bytes) -> None:
        if len(request) > (most := self._most_bytes(method)):
            raise FieldInvalid(f"the request has {len(request)} bytes; at most {most} are read")

    async def _end(
        self, failure: BaseException, call: Call, context: Context, telemetry: MethodTelemetry, began: float
    ) -> failures.Refusal | None:
        """Record a failure and return how to answer it; None for what must be raised on."""
        seconds = time.perf_counter() - began
        if isinstance(failure, asyncio.CancelledError):
            if failures.is_cancelled_by_caller():
                remaining = context.time_remaining()
                code = "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"
                telemetry.cancel(call, code, seconds)
                if call.record is not None and self._trail is not None:
                    self._trail.cancelled(call.record, call, code)
                return None
        elif not isinstance(failure, Exception):
            return None  # the interpreter is being stopped
        error = failures.translate(failure, call)
        if call.record is not None and self._trail is not None:
            try:
                await self._trail.failed(call.record, call, error)
            except AuditUnavailable as lost:
                error = lost
        let_go(call)
        telemetry.fail(call, error, seconds)
        return failures.trailers(error, call)

    def _unknown_route(self, name: str) -> Route:
        def check(context: Context) -> KeyreeveError:
            try:
                self._identify(context.auth)
            except KeyreeveError as refused:
                return refused
            return MethodUnknown(f"there is no method {name!r}")

        async def refuse(error: KeyreeveError, context: Context) -> failures.Refusal | None:
            call = _call(name, context)
            began = time.perf_counter()
            self._unknown.begin()
            if self._trail is not None:
                call.record = CallRecord(self._trail, call, lambda _: ("", ()))
            try:
                call.caller = self._identify(context.auth)
            except KeyreeveError:
                """The record then names no caller."""
            return await self._end(error, call, context, self._unknown, began)

        async def serve(_: bytes | AsyncIterable[bytes], context: Context) -> failures.Refusal | None:
            return await refuse(check(context), context)

        return Route(Kind.BIDI_STREAM, None, serve, check, refuse, self._limits.single_request_bytes)


def _call(method: str, context: Context) -> Call:
    return Call(method, peer=context.peer, metadata=context.metadata)
