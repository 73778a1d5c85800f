"""What differs between the asyncio and the blocking form in more than `await`: written by hand in both."""

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
"""What a call can end in when its channel is closed under it."""


def open_channel(
    target: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, str | int]]
) -> grpc.aio.Channel:
    """Make a channel; it connects on first use."""
    return grpc.aio.secure_channel(target, credentials, options)


async def wait_until_ready(channel: grpc.aio.Channel, seconds: float) -> bool:
    """Connect, and say whether that succeeded: the server has taken the certificate, and we its own."""
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
"""An event loop itself keeps no hold of its tasks."""


def spawn(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> Task:
    """Begin work whose end nobody waits for, except `stop`."""
    task = asyncio.create_task(work(), name=name)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)
    return task


async def stop(task: Task) -> None:
    """End a task that `spawn` began."""
    task.cancel()
    await asyncio.wait([task])


def was_told_to_stop() -> bool:
    """Whether the running task is being cancelled, as against a call whose channel was closed."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def let_others_come() -> None:
    """Let everybody who is about to do something do it first."""
    await asyncio.sleep(0)


async def aside(work: Callable[[], T]) -> T:
    """Run work that blocks where it holds nobody up."""
    return await asyncio.to_thread(work)


class Ticket(Generic[T]):
    """A place where one waits for what another tells; None is never told."""

    def __init__(self) -> None:
        self._told: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        """Whether nothing has been told, and whoever waits has not given up."""
        return not self._told.done()

    def settle(self, what: T) -> None:
        """Tell it; only the first time counts."""
        if not self._told.done():
            self._told.set_result(what)

    async def wait(self, seconds: float) -> T | None:
        """What is told within so many seconds, or None."""
        # Cheaper than `asyncio.timeout`, of which a client with many calls would make thousands a second.
        timer = self._told.get_loop().call_later(seconds, self._expire)
        try:
            return await self._told
        finally:
            timer.cancel()

    def _expire(self) -> None:
        if not self._told.done():
            self._told.set_result(None)


class Exchange(Generic[Answer]):
    """A call in which both sides speak in turn, at most `seconds` long in all. `receive` raises `grpc.RpcError`."""

    def __init__(
        self, channel: grpc.aio.Channel, method: str, answer: Callable[[bytes], Answer], seconds: float
    ) -> None:
        self._call = channel.stream_stream(method, _serialize, answer)(timeout=max(seconds, 0.0))

    async def send(self, message: Message) -> None:
        """Say something; that the call has ended shows when the answer is asked for."""
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await self._call.write(message)

    async def receive(self) -> Answer:
        """What the other side says next."""
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            raise ServiceStopping("the call was ended before its last answer")
        return cast("Answer", answer)

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()
