"""How a client calls: deadlines, retries, and the translation of errors."""

import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message

from keyreeve._async import runtime
from keyreeve._async.rotating import Generation, RotatingChannel
from keyreeve.errors import (
    DeadlinePassed,
    FieldInvalid,
    KeyreeveError,
    ServiceStopping,
    ServiceUnreachable,
    Unauthenticated,
    Unavailable,
)
from keyreeve.retry import Backoff, RetryPolicy
from keyreeve.status import deadline_passed, error_from_rpc
from keyreeve.ticket_key import TICKET_KEY

Response = TypeVar("Response", bound=Message)

STREAM_SECONDS = 900.0
"""Deadline of a stream; `follow` opens the next one."""
MAX_CHANNEL_CHANGES = 3
"""How often a call is repeated at once, without a pause, since its channel got newer credentials."""
_CA = "/keyreeve.ca."
_PRIVATE_KEY = b"PRIVATE KEY-----"
"""Of a PEM header. No message to the CA contains a private key."""


class Caller:
    """Sends the calls to one service.

    `ticket` returns the ticket that an attempt is made with; `jitter` returns numbers from 0 up to 1; times are in seconds.
    """

    def __init__(
        self,
        channel: RotatingChannel,
        *,
        timeout: float,
        policy: RetryPolicy,
        ticket: Callable[[], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: runtime.Sleep = runtime.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._channel = channel
        self.timeout = timeout
        """Default time limit of a call, in seconds."""
        self._policy = policy
        self._ticket = ticket
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def unary(
        self, method: str, request: Message, response: type[Response], timeout: float | None = None
    ) -> Response:
        """Call a unary method.

        `timeout` is over all attempts (the client's unless given).

        Raises one of `keyreeve.errors`.
        """
        if method.startswith(_CA) and _PRIVATE_KEY in request.SerializeToString():
            raise FieldInvalid("the request contains a private key; nothing has been sent")

        async def run(generation: Generation, remaining: float) -> Response:
            return cast("Response", await generation.unary(method, response)(request, **self._sending(remaining)))

        return cast("Response", await self._repeat(run, timeout))

    async def upload(
        self, method: str, requests: Sequence[Message], response: type[Response], timeout: float | None = None
    ) -> Response:
        """Call a method with a stream of requests, otherwise as `unary`; they are sent again with each attempt."""

        async def run(generation: Generation, remaining: float) -> Response:
            call = generation.upload(method, response)
            return cast("Response", await call(iter(requests), **self._sending(remaining)))

        return cast("Response", await self._repeat(run, timeout))

    async def download(
        self, method: str, request: Message, response: type[Response], timeout: float | None = None
    ) -> list[Response]:
        """Call a method with a stream of responses that ends, otherwise as `unary`, and return all of them."""

        async def run(generation: Generation, remaining: float) -> list[Response]:
            call = generation.stream(method, response)
            return [message async for message in call(request, **self._sending(remaining))]

        return cast("list[Response]", await self._repeat(run, timeout))

    async def _repeat(self, run: Callable[[Generation, float], Any], timeout: float | None) -> Any:  # noqa: ANN401
        """Run the attempts of one call. Raises one of `keyreeve.errors`."""
        deadline = self._clock() + (self.timeout if timeout is None else timeout)
        backoff = Backoff(self._policy, self._jitter)
        channel_changes = 0
        while True:
            remaining = deadline - self._clock()
            if remaining <= 0:
                raise DeadlinePassed(f"the deadline for calling {self._channel.description} has passed")
            generation = await self._channel.take()
            try:
                return await run(generation, remaining)
            except grpc.RpcError as failure:
                error = self._error_of(failure)
            except runtime.ABORTED:
                if not self._was_closed():
                    raise
                error = self.error_of_closing()
            finally:
                await self._channel.give_back(generation)
            if channel_changes < MAX_CHANNEL_CHANGES and await self._channel_changed(error, generation):
                channel_changes += 1
                continue
            delay = backoff.delay(error, deadline - self._clock())
            if delay is None:
                raise error
            await self._sleep(delay)

    async def follow(self, method: str, request: Message, response: type[Response]) -> AsyncGenerator[Response, None]:
        """Iterate over the messages of a stream that is opened again whenever it ends.

        An outage is waited out, except before the first message: then the call fails like any other.
        """
        backoff = Backoff(self._policy, self._jitter)
        patient = RetryPolicy(2**63, self._policy.initial, self._policy.maximum, self._policy.multiplier)
        while True:
            generation = await self._channel.take()
            error: KeyreeveError = Unavailable(f"{self._channel.description} ended the stream")
            try:
                call = generation.stream(method, response)(request, **self._sending(STREAM_SECONDS))
                try:
                    async for message in call:
                        backoff = Backoff(patient, self._jitter)
                        yield cast("Response", message)
                finally:
                    call.cancel()
            except grpc.RpcError as failure:
                error = self._error_of(failure)
            except runtime.ABORTED:
                if not self._was_closed():
                    raise
                error = self.error_of_closing()
            finally:
                await self._channel.give_back(generation)
            if await self._channel_changed(error, generation):
                continue
            if isinstance(error, DeadlinePassed):
                error = Unavailable(error.message)  # the stream's own deadline, not the caller's
            delay = backoff.delay(error, float("inf"))
            if delay is None:
                raise error
            await self._sleep(delay)

    def _sending(self, seconds: float) -> dict[str, Any]:
        """What an attempt is sent with: its timeout, and the ticket where there is one."""
        if self._ticket is None:
            return {"timeout": seconds}
        return {"timeout": seconds, "metadata": ((TICKET_KEY, self._ticket()),)}

    async def _channel_changed(self, error: KeyreeveError, used: Generation) -> bool:
        """Whether the channel has been replaced since, which may cure the failure."""
        return isinstance(error, ServiceUnreachable | Unauthenticated) and await self._channel.refresh(used)

    def _error_of(self, failure: grpc.RpcError) -> KeyreeveError:
        error = error_from_rpc(failure, self._channel.description)
        if isinstance(error, ServiceStopping) and self._was_closed():
            return self.error_of_closing()  # gRPC uses the same status whichever side has closed the connection
        return error

    def deadline_passed(self) -> DeadlinePassed:
        """Make the error of a call that was not answered in time."""
        return deadline_passed(self._channel.description)

    def error_of_closing(self) -> KeyreeveError:
        """Make the error of a call whose client was closed."""
        return KeyreeveError(f"the client was closed during a call of {self._channel.description}")

    def _was_closed(self) -> bool:
        return self._channel.closed and not runtime.is_being_cancelled()
