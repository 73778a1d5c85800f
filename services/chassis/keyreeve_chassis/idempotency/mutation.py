"""The answer of a slow mutation: made from what the use case returns, in the transaction that also records it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from keyreeve import errors
from keyreeve.audit.record import head, prefix, tail
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.messages import caller_of, payload_sha256, request_id_of
from keyreeve_chassis.idempotency.service import answer_once

R = TypeVar("R")
V = TypeVar("V")


async def committed_with(call: Call, work: Coroutine[Any, Any, R]) -> R:
    """Run what commits a call's audit record together with what it does: nobody else writes it if that succeeds."""
    done = asyncio.ensure_future(work)
    if call.record is not None:
        call.record.entrust(done)
    # A caller that goes away does not stop a commit half-way, and only its end says whether there is a record.
    return await asyncio.shield(done)


@dataclass(frozen=True)
class Answering(Generic[V]):
    """An `answers.Answer` for one call. Raises `RequestIdInvalid` when it is made for a request without a good id."""

    store: Store
    request: Message
    request_id: str
    call: Call
    message: Callable[[Transaction, V], Message]
    results: Callable[[V], Sequence[tuple[str, str]]] = lambda _value: ()
    """What the audit record says of the outcome, beside the name that it has."""

    def __post_init__(self) -> None:
        request_id_of(self.request_id)

    async def __call__(self, act: Callable[[Transaction], V]) -> bytes:
        named: list[tuple[str, str]] = []

        def run(tx: Transaction) -> bytes:
            value = act(tx)
            message = self.message(tx, value)
            named[:] = self.results(value)
            if "name" in message.DESCRIPTOR.fields_by_name:
                named.append(("name", message.name))  # type: ignore[attr-defined]
            return message.SerializeToString()

        head = self._head()

        def record(repeated: bool) -> bytes:
            return head + tail("OK", "", [("answer", "repeated")] if repeated else named)

        return await committed_with(
            self.call,
            answer_once(
                self.store,
                caller=caller_of(self.call).claimant,
                method=self.call.method,
                request_id=self.request_id,
                payload_sha256=payload_sha256(self.request),
                act=run,
                record=record,
            ),
        )

    def _head(self) -> bytes:
        if self.call.record is not None:
            return self.call.record.head()
        made = prefix(self.call.method, str(caller_of(self.call)), "", subject="", peer=self.call.peer, tls="")
        return head(made, time.time_ns() // 1_000_000, self.request_id, self.call.request_id, ())

    async def before(self) -> bytes | None:
        """What the same request was answered before, so that a repeat skips what takes long."""
        answered = await self.store.read(
            lambda tx: tx.answered(caller_of(self.call).claimant, self.call.method, self.request_id)
        )
        return None if answered is None else await self(self._purged)

    @staticmethod
    def _purged(_tx: Transaction) -> V:
        raise errors.StoreUnavailable("the stored answer has just been purged; repeat the call")
