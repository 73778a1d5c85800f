"""A channel that goes on while its certificate, key or bundle are replaced."""

import logging
import random
import threading
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from google.protobuf.message import Message

from keyreeve import credentials
from keyreeve._async import runtime
from keyreeve.context import Context
from keyreeve.errors import KeyreeveError, ServiceUnreachable

_log = logging.getLogger("keyreeve")
_serialize = methodcaller("SerializeToString")


class Generation:
    """One channel with the files that it was opened with, and the number of calls that are using it."""

    def __init__(self, channel: runtime.Channel, files: credentials.TlsFiles) -> None:
        self.channel = channel
        self.files = files
        self.users = 0
        self.retired = False
        self._methods: dict[str, Any] = {}

    def unary(self, method: str, response: type[Message]) -> Any:  # noqa: ANN401  # gRPC's own type says no more
        """The callable for a method that answers once."""
        if method not in self._methods:
            self._methods[method] = self.channel.unary_unary(method, _serialize, response.FromString)
        return self._methods[method]

    def stream(self, method: str, response: type[Message]) -> Any:  # noqa: ANN401
        """The callable for a method that answers many times."""
        if method not in self._methods:
            self._methods[method] = self.channel.unary_stream(method, _serialize, response.FromString)
        return self._methods[method]


class RotatingChannel:
    """A channel to one service of a context.

    While it is used it looks at the context's files, at most once in `check_interval` seconds. When they have changed it
    connects a second channel with the new ones and, once that is ready, gives it to new calls; calls and streams on the
    old one finish there, and the last of them closes it. Files that cannot be used (a key without its certificate, a
    bundle that does not vouch for the service) change nothing: the old channel stays in use, a warning is logged, and
    the next attempt follows when they change again or after `retry_interval` seconds.
    """

    def __init__(
        self,
        context: Context,
        service: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        check_interval: float = 1.0,
        retry_interval: float = 5.0,
        ready_timeout: float = 10.0,
    ) -> None:
        self._context = context
        self._service = service
        self._address = context.endpoint(service)
        self._options = credentials.channel_options(context, service)
        self._clock = clock
        self._check_interval = check_interval
        self._retry_interval = retry_interval
        self._ready_timeout = ready_timeout
        self._turn = runtime.Lock()  # one rotation at a time; held while connecting
        self._state = threading.Lock()  # guards what follows; never held while waiting
        self._current: Generation | None = None
        self._open: set[Generation] = set()
        self._closed = False
        self._next_look = 0.0
        self._task: runtime.Task | None = None
        self._failed: tuple[credentials.Signature | None, float] | None = None

    @property
    def description(self) -> str:
        """Which service and where, for messages."""
        return f"{self._service} at {self._address}"

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    @property
    def open_channels(self) -> int:
        """How many channels are open: one, and those that still drain."""
        return len(self._open)

    async def take(self) -> Generation:
        """The channel for a call that begins now; give it back when the call has ended.

        Raises `keyreeve.errors.ContextInvalid` when there is none yet and the files cannot be used.
        """
        if self._current is None:
            await self._open_first()
        elif self._clock() >= self._next_look:
            self._look()
        with self._state:
            if self._closed or self._current is None:
                raise RuntimeError("the client is closed")
            self._current.users += 1
            return self._current

    async def give_back(self, generation: Generation) -> None:
        """End a call's use of a channel; the last one closes a channel that has been replaced."""
        with self._state:
            generation.users -= 1
            drained = generation.retired and generation.users == 0
        if drained:
            await self._close(generation)

    async def rotate(self) -> bool:
        """Move to what the files hold now, and say whether that is anything new. Calls go on meanwhile.

        Raises `keyreeve.errors.ContextInvalid` or `keyreeve.errors.ServiceUnreachable` when the files cannot be used;
        the channel then stays as it was.
        """
        async with self._turn:
            files = credentials.read(self._context)
            current = self._current
            if current is not None and current.files.digest == files.digest:
                current.files = files
                return False
            channel = runtime.open_channel(self._address, files.channel_credentials(), self._options)
            generation = Generation(channel, files)
            with self._state:
                self._open.add(generation)
            if not await self._is_ready(generation):
                raise ServiceUnreachable(f"the new certificate and bundle do not connect to {self.description}")
            await self._move_to(generation)
            return True

    async def refresh(self, used: Generation) -> bool:
        """After a call on `used` has failed for a reason that other files may cure: whether there is a newer channel."""
        if self._current is used and self._has_changed(used):
            await self._rotate_quietly()
        return self._current is not used

    async def close(self) -> None:
        """Close every channel; calls still in flight fail."""
        with self._state:
            self._closed = True
            task = self._task
        if task is not None:
            await runtime.stop(task)
        for generation in tuple(self._open):
            await self._close(generation)

    async def _open_first(self) -> None:
        async with self._turn:
            if self._current is None and not self._closed:
                files = credentials.read(self._context)
                channel = runtime.open_channel(self._address, files.channel_credentials(), self._options)
                with self._state:
                    self._current = Generation(channel, files)
                    self._open.add(self._current)
                    self._next_look = self._clock() + self._check_interval

    def _look(self) -> None:
        with self._state:
            now = self._clock()
            current = self._current
            if current is None or self._closed or now < self._next_look or self._task is not None:
                return
            self._next_look = now + self._check_interval
            if self._has_changed(current):
                # Not pending: this call need not wait for a handshake, the old channel is as good as it was.
                self._task = runtime.spawn(self._rotate_in_background, "keyreeve-rotation")

    def _has_changed(self, current: Generation) -> bool:
        signature = credentials.look(self._context)
        if signature is None or signature == current.files.signature:
            return False
        return self._failed is None or self._failed[0] != signature or self._clock() >= self._failed[1]

    async def _rotate_in_background(self) -> None:
        try:
            await self._rotate_quietly()
        finally:
            with self._state:  # `_look` holds it until it has stored the task
                self._task = None

    async def _rotate_quietly(self) -> None:
        signature = credentials.look(self._context)
        try:
            await self.rotate()
            self._failed = None
        except KeyreeveError as failure:
            # Spread, since the clients of one directory all noticed the same change.
            pause = self._retry_interval * random.uniform(0.8, 1.2)  # noqa: S311  # no secret depends on it
            self._failed = (signature, self._clock() + pause)
            _log.warning("keeping the earlier certificate and bundle for %s: %s", self.description, failure)

    async def _is_ready(self, generation: Generation) -> bool:
        ready = False
        try:
            ready = await runtime.wait_until_ready(generation.channel, self._ready_timeout)
        finally:
            if not ready:
                await self._close(generation)
        return ready

    async def _move_to(self, generation: Generation) -> None:
        with self._state:
            replaced = None if self._closed else self._current
            if not self._closed:
                self._current = generation
            if replaced is not None:
                replaced.retired = True
            idle = replaced is not None and replaced.users == 0
        if self._closed:
            await self._close(generation)
        elif idle and replaced is not None:
            await self._close(replaced)

    async def _close(self, generation: Generation) -> None:
        with self._state:
            self._open.discard(generation)
        await generation.channel.close()
