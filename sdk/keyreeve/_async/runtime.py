"""The parts of the clients that are written by hand for asyncio and for threads."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from operator import methodcaller
from typing import Any, Generic, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from keyreeve.errors import ServiceStopping

T = TypeVar("T")
Answer = TypeVar("Answer", bound=Message)
_serialize = methodcaller("SerializeToString")

Channel = grpc.aio.Channel
Lock = asyncio.Lock
Task = asyncio.Task[None]
Sleep = Callable[[float], Awaitable[None]]
sleep = asyncio.sleep

ABORTED = (asyncio.CancelledError, grpc.aio.UsageError)
"""Exceptions of a call whose channel is closed meanwhile."""


def open_channel(
    target: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, str | int]]
) -> grpc.aio.Channel:
    """Make a channel; it connects on first use."""
    return grpc.aio.secure_channel(target, credentials, options)


async def wait_until_ready(channel: grpc.aio.Channel, seconds: float) -> bool:
    """Connect; say whether the TLS handshake succeeded in both directions."""
    try:
        async with asyncio.timeout(seconds):
            state = channel.get_state(try_to_connect=True)
            while state not in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
            return state is grpc.ChannelConnectivity.READY
    except TimeoutError:
        return False


_spawned: set[Task] = set()
"""Running tasks; an event loop keeps only weak references."""


def spawn(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
    """Start a background task, which `stop` ends."""
    task = asyncio.create_task(work(), name=name)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task


async def stop(task: Task) -> None:
    """Cancel a background task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


def is_being_cancelled() -> bool:
    """Whether the running task is being cancelled.

    Otherwise the channel of its call was closed.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def yield_to_others() -> None:
    """Let the other ready tasks run first."""
    await asyncio.sleep(0)


async def run_blocking(work: Callable[[], T]) -> T:
    """Run blocking work in a thread."""
    return await asyncio.to_thread(work)


class Promise(Generic[T]):
    """A result that one task or thread sets and another waits for.

    None is not a result.
    """

    def __init__(self) -> None:
        self._result: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        """Whether there is no result yet, and the waiting side has not given up."""
        return not self._result.done()

    def settle(self, result: T) -> None:
        """Set the result; only the first one counts."""
        if not self._result.done():
            self._result.set_result(result)

    async def wait(self, seconds: float) -> T | None:
        """Wait for the result; None when it does not arrive within so many seconds."""
        # Cheaper than `asyncio.timeout`, of which a client with many calls would make thousands a second.
        timer = self._result.get_loop().call_later(seconds, self._expire)
        try:
            return await self._result
        finally:
            timer.cancel()

    def _expire(self) -> None:
        if not self._result.done():
            self._result.set_result(None)


class Exchange(Generic[Answer]):
    """A bidirectional stream, at most `seconds` long.

    `receive` raises `grpc.RpcError`.
    """

    def __init__(
        self, channel: grpc.aio.Channel, method: str, answer: Callable[[bytes], Answer], seconds: float
    ) -> None:
        self._call = channel.stream_stream(method, _serialize, answer)(timeout=max(seconds, 0.0))

    async def send(self, message: Message) -> None:
        """Send a message; a call that has ended raises in `receive`."""
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await self._call.write(message)

    async def receive(self) -> Answer:
        """Receive the next message."""
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            raise ServiceStopping("the call ended before its last response")
        return cast("Answer", answer)

    async def wait_until_ended(self) -> None:
        """Wait for the end of a call after its last message. Raises `grpc.RpcError` unless it has ended well."""
        if await self._call.read() is not grpc.aio.EOF:
            raise ServiceStopping("the call went on after its last message")

    def cancel(self) -> None:
        """Cancel the call."""
        self._call.cancel()
