"""Stop signals as an event that a service waits for."""

import asyncio
import signal
from collections.abc import Iterable


def stop_signals(signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> asyncio.Event:
    """Return an event that the first of `signals` sets.

    A second signal has its default effect: it ends the process at once.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    wanted = tuple(signals)

    def told() -> None:
        stop.set()
        for number in wanted:
            loop.remove_signal_handler(number)

    for number in wanted:
        loop.add_signal_handler(number, told)
    return stop
