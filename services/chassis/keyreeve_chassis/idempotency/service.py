"""Slow mutations answer the same request the same way for 24 hours: the answer is stored in the transaction that acts."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from keyreeve_ca.issuance.service import request_id_reused
from keyreeve_ca.store.ports import Store, Transaction

V_contra = TypeVar("V_contra", contravariant=True)


class Answer(Protocol[V_contra]):
    """Runs the last step of a mutation in the transaction that also records its answer, and returns that."""

    def __call__(self, act: Callable[[Transaction], V_contra]) -> Awaitable[bytes]: ...


async def answer_once(
    store: Store,
    *,
    caller: str,
    method: str,
    request_id: str,
    payload_sha256: bytes,
    act: Callable[[Transaction], bytes],
    record: Callable[[bool], bytes],
) -> bytes:
    """Run `act` and record what it answers, or answer what a request of this id answered before.

    `record` makes the audit record that is committed with it; it is told whether the answer is a repeated one.
    Raises `RequestIdReused` when the id came with another payload, and whatever `act` raises: then nothing has happened.
    """

    def work(tx: Transaction) -> bytes:
        answered = tx.answered(caller, method, request_id)
        if answered is not None:
            if answered.payload_sha256 != payload_sha256 or answered.response is None:
                raise request_id_reused(request_id)
            tx.audit.append(record(True))
            return answered.response
        response = act(tx)
        tx.audit.append(record(False))
        tx.answer(caller, method, request_id, payload_sha256, response)
        return response

    return await store.write(work)
