"""The answer of a slow mutation: made from what the use case returns, in the transaction that also records it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from keyreeve import errors
from keyreeve_ca.answers import answer_once
from keyreeve_ca.registry import Store, Transaction
from keyreeve_ca.serving.messages import caller_of, payload_sha256, request_id_of
from keyreeve_chassis.call import Call

V = TypeVar("V")


@dataclass(frozen=True)
class Answering(Generic[V]):
    """An `answers.Answer` for one call. Raises `RequestIdInvalid` when it is made for a request without a good id."""

    store: Store
    request: Message
    request_id: str
    call: Call
    message: Callable[[Transaction, V], Message]

    def __post_init__(self) -> None:
        request_id_of(self.request_id)

    async def __call__(self, act: Callable[[Transaction], V]) -> bytes:
        return await answer_once(
            self.store,
            caller=str(caller_of(self.call)),
            method=self.call.method,
            request_id=self.request_id,
            payload_sha256=payload_sha256(self.request),
            act=lambda tx: self.message(tx, act(tx)).SerializeToString(),
        )

    async def before(self) -> bytes | None:
        """What the same request was answered before, so that a repeat skips what takes long."""
        answered = await self.store.read(
            lambda tx: tx.answered(str(caller_of(self.call)), self.call.method, self.request_id)
        )
        return None if answered is None else await self(self._purged)

    @staticmethod
    def _purged(_tx: Transaction) -> V:
        raise errors.StoreUnavailable("the stored answer has just been purged; repeat the call")
