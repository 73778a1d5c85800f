"""Mutations: idempotent by (caller, method, request id), and audited in the transaction that acts.

The response is stored in the transaction that acts, for 24 hours: a repeat is answered with it. A secret that belongs to a
response is handed over apart and never stored.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, Protocol, TypeVar, cast

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message

from keyreeve import errors
from keyreeve.audit.record import head, prefix, tail
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.call import AuditRecord, Call, caller_of, payload_sha256, peer_of, request_id_of
from keyreeve_chassis.idempotency.ports import MutationTransaction, StoredResponse, request_id_reused

T = TypeVar("T")
M = TypeVar("M", bound=Message)
S = TypeVar("S")
TxT_co = TypeVar("TxT_co", bound=MutationTransaction, covariant=True)
TxT = TypeVar("TxT", bound=MutationTransaction)

Results = Sequence[tuple[str, str]]
"""What an audit record says of the outcome."""


class MutationRequest(Protocol):
    """A request message of a mutation: each has a `request_id` (docs/protocols.md)."""

    @property
    def request_id(self) -> str: ...
    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: N802 - protobuf's name


Act = Callable[[TxT], M]


@dataclass(frozen=True)
class Mutations(Generic[TxT_co]):
    """Runs the mutations of one service's servicers."""

    store: Store[TxT_co]

    async def __call__(
        self,
        call: Call,
        request: MutationRequest,
        act: Act[TxT_co, M],
        results: Callable[[M], Results] = lambda _: (),
        *,
        record: Callable[[Results], bytes] | None = None,
    ) -> M:
        """Run `act` once and return its response; a repeat of the request gets the same response.

        The audit record names what the response names, and `results`; `record` makes another one of them. Raises
        `RequestIdInvalid`, `RequestIdReused` (another payload under the same id), and what `act` raises: then nothing has
        happened.
        """
        return await self._run(_Mutation(call, request, act, results, record=record))

    async def with_secret(
        self,
        call: Call,
        request: MutationRequest,
        act: Callable[[TxT_co], tuple[M, S]],
        repeat: Callable[[TxT_co, M], S],
        results: Callable[[M], Results] = lambda _: (),
    ) -> tuple[M, S]:
        """The same for a response that comes with a secret. The secret is not stored: `repeat` makes another one.

        `repeat` gets the stored response in the transaction of the repeat, and may raise: then nothing has happened.
        """
        secrets: list[S] = []

        def first(tx: Any) -> M:  # noqa: ANN401 - mypy allows no covariant type here
            response, secret = act(tx)
            secrets[:] = [secret]
            return response

        def again(tx: Any, stored: M) -> None:  # noqa: ANN401
            secrets[:] = [repeat(tx, stored)]

        response = await self._run(_Mutation(call, request, first, results, again))
        return response, secrets[-1]

    async def prepared(
        self,
        call: Call,
        request: MutationRequest,
        prepare: Callable[[Callable[[Act[TxT_co, M]], Awaitable[M]]], Awaitable[M]],
    ) -> M:
        """The same for what takes long before its transaction: `prepare` is given what runs `act`, and skipped by a repeat."""
        caller, request_id = caller_of(call).claimant, request_id_of(request.request_id)

        def find(tx: MutationTransaction) -> StoredResponse | None:
            return tx.requests.find(caller, call.method, request_id)

        stored = await self.store.read(find)
        if stored is not None:
            return await self._run(_Mutation(call, request, _purged))
        return await prepare(lambda act: self._run(_Mutation(call, request, act)))

    async def _run(self, mutation: "_Mutation[Any, M]") -> M:
        return await committed_with(mutation.call.record, self.store.write(mutation))


@dataclass(frozen=True)
class _Mutation(Generic[TxT, M]):
    """The work of one transaction."""

    call: Call
    request: MutationRequest
    act: Act[TxT, M]
    results: Callable[[M], Results] = lambda _: ()
    again: Callable[[TxT, M], None] = lambda _tx, _stored: None
    """Run for a repeat, with the stored response."""
    record: Callable[[Results], bytes] | None = None

    def __post_init__(self) -> None:
        request_id_of(self.request.request_id)

    def __call__(self, tx: TxT) -> M:
        caller, method, request_id = caller_of(self.call).claimant, self.call.method, self.request.request_id
        payload = payload_sha256(cast("Message", self.request))
        stored = tx.requests.find(caller, method, request_id)
        if stored is not None:
            if stored.payload_sha256 != payload or stored.response is None:
                raise request_id_reused(request_id)
            response = cast("M", _response_class(method).FromString(stored.response))
            self.again(tx, response)
            tx.audit.append(self._record([("answer", "repeated")]))
            return response
        response = self.act(tx)
        named = [*self.results(response)]
        if "name" in response.DESCRIPTOR.fields_by_name:
            named.append(("name", response.name))  # type: ignore[attr-defined]
        tx.audit.append(self._record(named))
        tx.requests.add(caller, method, request_id, payload, response.SerializeToString())
        return response

    def _record(self, results: Results) -> bytes:
        if self.record is not None:
            return self.record(results)
        if self.call.record is not None:
            return self.call.record.head + tail("OK", "", results)
        subject = "" if self.call.subject is None else str(self.call.subject)
        made = prefix(self.call.method, str(peer_of(self.call)), "", subject=subject, peer=self.call.peer, tls="")
        now = time.time_ns() // 1_000_000
        return head(made, now, self.request.request_id, self.call.request_id, ()) + tail("OK", "", results)


async def committed_with(record: AuditRecord | None, work: Coroutine[Any, Any, T]) -> T:
    """Run what commits a call's audit record together with what it does: nothing else writes it if that succeeds."""
    done = asyncio.ensure_future(work)
    if record is not None:
        record.entrusted = done
    # A caller that goes away does not stop a commit half-way, and only its end says whether there is a record.
    return await asyncio.shield(done)


def _purged(_tx: object) -> Any:  # noqa: ANN401 - it never returns
    raise errors.StoreUnavailable("the stored response has just been purged; repeat the call")


@cache
def _response_class(method: str) -> type[Message]:
    """The response message of `/package.Service/Method`."""
    service, _, name = method.lstrip("/").partition("/")
    descriptor = descriptor_pool.Default().FindMethodByName(f"{service}.{name}")
    return message_factory.GetMessageClass(descriptor.output_type)
