"""What differs between the asyncio and the blocking form in more than `await`: written by hand in both."""

import queue
import threading
import time
from collections.abc import Callable

import grpc

Channel = grpc.Channel
Lock = threading.Lock
Task = threading.Thread
Sleep = Callable[[float], None]
sleep = time.sleep

ABORTED = (ValueError,)
"""What a call can end in when its channel is closed under it."""


def open_channel(
    address: str, credentials: grpc.ChannelCredentials, options: list[tuple[str, str | int]]
) -> grpc.Channel:
    """Make a channel; it connects on first use."""
    return grpc.secure_channel(address, credentials, options)


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


def spawn(work: Callable[[], None]) -> Task:
    """Begin work whose end nobody waits for, except `stop`."""
    task = threading.Thread(target=work, name="keyreeve-rotation", daemon=True)
    task.start()
    return task


def stop(task: Task) -> None:
    """Wait a moment for the end of work that `spawn` began; if it is waiting for a peer, it ends by itself later."""
    task.join(timeout=1.0)


def was_told_to_stop() -> bool:
    """Never: threads are not cancelled."""
    return False
