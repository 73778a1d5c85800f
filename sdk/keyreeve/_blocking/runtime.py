"""What differs between the asyncio and the blocking form in more than `await`: written by hand in both."""

import queue
import threading
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Generic, TypeVar

import grpc
from google.protobuf.message import Message

from keyreeve.errors import ServiceStopping

T = TypeVar("T")
Answer = TypeVar("Answer", bound=Message)
_serialize = methodcaller("SerializeToString")

Channel = grpc.Channel
Lock = threading.Lock
Task = threading.Thread
Sleep = Callable[[float], None]
sleep = time.sleep

ABORTED = (ValueError,)
"""What a call can end in when its channel is closed under it."""


def open_channel(
    target: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, str | int]]
) -> grpc.Channel:
    """Make a channel; it connects on first use."""
    return grpc.secure_channel(target, credentials, options)


def wait_until_ready(channel: grpc.Channel, seconds: float) -> bool:
    """Connect, and say whether that succeeded: the server has taken the certificate, and we its own."""
    states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    deadline = time.monotonic() + seconds
    channel.subscribe(states.put, try_to_connect=True)
    try:
        while (remaining := deadline - time.monotonic()) > 0:
            state = states.get(timeout=remaining)
            if state in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
                return state is grpc.ChannelConnectivity.READY
    except queue.Empty:
        pass
    finally:
        channel.unsubscribe(states.put)
    return False


def spawn(work: Callable[[], None], name: str) -> Task:
    """Begin work whose end nobody waits for, except `stop`."""
    task = threading.Thread(target=work, name=name, daemon=True)
    task.start()
    return task


def stop(task: Task) -> None:
    """Wait a moment for the end of work that `spawn` began; if it is waiting for a peer, it ends by itself later."""
    task.join(timeout=1.0)


def was_told_to_stop() -> bool:
    """Never: threads are not cancelled."""
    return False


def let_others_come() -> None:
    """Nothing: other threads come when they like."""


def aside(work: Callable[[], T]) -> T:
    """Run work that blocks."""
    return work()


class Ticket(Generic[T]):
    """A place where one waits for what another tells; None is never told."""

    def __init__(self) -> None:
        self._told = threading.Lock()
        self._told.acquire()
        self._what: T | None = None
        self.open = True
        """Whether nothing has been told, and whoever waits has not given up."""

    def settle(self, what: T) -> None:
        """Tell it; only the first time counts, and no two threads may tell at once."""
        if self._what is None:
            self._what, self.open = what, False
            self._told.release()

    def wait(self, seconds: float) -> T | None:
        """What is told within so many seconds, or None."""
        try:
            self._told.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
        finally:
            self.open = False
        return self._what


class Exchange(Generic[Answer]):
    """A call in which both sides speak in turn, at most `seconds` long in all. `receive` raises `grpc.RpcError`."""

    def __init__(self, channel: grpc.Channel, method: str, answer: Callable[[bytes], Answer], seconds: float) -> None:
        self._said: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        call = channel.stream_stream(method, _serialize, answer)
        self._call = call(iter(self._said.get, None), timeout=max(seconds, 0.0))

    def send(self, message: Message) -> None:
        """Say something; that the call has ended shows when the answer is asked for."""
        self._said.put(message)

    def receive(self) -> Answer:
        """What the other side says next."""
        for answer in self._call:
            return answer
        raise ServiceStopping("the call was ended before its last answer")

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()
        self._said.put(None)
