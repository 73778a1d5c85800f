"""The parts of the clients that are written by hand for asyncio and for threads."""

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
"""Exceptions of a call whose channel is closed meanwhile."""


def open_channel(
    target: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, str | int]]
) -> grpc.Channel:
    """Make a channel; it connects on first use."""
    return grpc.secure_channel(target, credentials, options)


def wait_until_ready(channel: grpc.Channel, seconds: float) -> bool:
    """Connect; say whether the TLS handshake succeeded in both directions."""
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
    """Start a background thread, which `stop` waits for."""
    task = threading.Thread(target=work, name=name, daemon=True)
    task.start()
    return task


def stop(task: Task) -> None:
    """Wait a second for the end of a background thread.

    One that waits for a peer ends by itself later.
    """
    task.join(timeout=1.0)


def is_being_cancelled() -> bool:
    """Return False: threads are not cancelled."""
    return False


def yield_to_others() -> None:
    """Do nothing: the other threads run anyway."""


def run_blocking(work: Callable[[], T]) -> T:
    """Run blocking work."""
    return work()


class Promise(Generic[T]):
    """A result that one task or thread sets and another waits for.

    None is not a result.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._result: T | None = None
        self.open = True
        """Whether there is no result yet, and the waiting side has not given up."""

    def settle(self, result: T) -> None:
        """Set the result.

        Only the first one counts, and no two threads may set it at once.
        """
        if self._result is None:
            self._result, self.open = result, False
            self._lock.release()

    def wait(self, seconds: float) -> T | None:
        """Wait for the result; None when it does not arrive within so many seconds."""
        try:
            self._lock.acquire(timeout=min(max(seconds, 0.0), threading.TIMEOUT_MAX))
        finally:
            self.open = False
        return self._result


class Exchange(Generic[Answer]):
    """A bidirectional stream, at most `seconds` long.

    `receive` raises `grpc.RpcError`.
    """

    def __init__(self, channel: grpc.Channel, method: str, answer: Callable[[bytes], Answer], seconds: float) -> None:
        self._said: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        call = channel.stream_stream(method, _serialize, answer)
        self._call = call(iter(self._said.get, None), timeout=max(seconds, 0.0))

    def send(self, message: Message) -> None:
        """Send a message; a call that has ended raises in `receive`."""
        self._said.put(message)

    def receive(self) -> Answer:
        """Receive the next message."""
        for answer in self._call:
            return answer
        raise ServiceStopping("the call ended before its last response")

    def wait_until_ended(self) -> None:
        """Wait for the end of a call after its last message. Raises `grpc.RpcError` unless it has ended well."""
        for _ in self._call:
            raise ServiceStopping("the call went on after its last message")

    def cancel(self) -> None:
        """Cancel the call."""
        self._call.cancel()
        self._said.put(None)
