"""A channel that follows its certificate, key, bundle and addresses."""

import logging
import random
import threading
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Any

from google.protobuf.message import Message

from keyreeve import channel_credentials
from keyreeve._async import runtime
from keyreeve.context import Context
from keyreeve.errors import KeyreeveError, ServiceUnreachable
from keyreeve.targets import needs_resolving, target_of

_log = logging.getLogger("keyreeve")
_serialize = methodcaller("SerializeToString")


class Generation:
    """A channel, the target and files that it was opened with, and its call count."""

    def __init__(self, channel: runtime.Channel, target: str, files: channel_credentials.TlsFiles) -> None:
        self.channel = channel
        self.target = target
        self.files = files
        self.users = 0
        self.retired = False
        self._methods: dict[str, Any] = {}

    def unary(self, method: str, response: type[Message]) -> Any:  # noqa: ANN401  # gRPC's own type says no more
        """Return the callable of a unary method."""
        if method not in self._methods:
            self._methods[method] = self.channel.unary_unary(method, _serialize, response.FromString)
        return self._methods[method]

    def upload(self, method: str, response: type[Message]) -> Any:  # noqa: ANN401
        """Return the callable of a client-streaming method."""
        if method not in self._methods:
            self._methods[method] = self.channel.stream_unary(method, _serialize, response.FromString)
        return self._methods[method]

    def stream(self, method: str, response: type[Message]) -> Any:  # noqa: ANN401
        """Return the callable of a server-streaming method."""
        if method not in self._methods:
            self._methods[method] = self.channel.unary_stream(method, _serialize, response.FromString)
        return self._methods[method]


class RotatingChannel:
    """A channel to one service of a context; it connects when it is first used.

    While it is used it looks at the context's files, at most once in `check_interval` seconds. When they have changed it
    connects a second channel with the new ones and, once that is ready, gives it to new calls; calls and streams on the
    old one finish there, and the last of them closes it. Files that cannot be used (a key without its certificate, a
    bundle that the service's certificate does not lead to) change nothing: the old channel stays in use, a warning is
    logged, and the next attempt follows when they change again or after `retry_interval` seconds.

    Calls are balanced over the service's addresses. Where those are several with DNS names among them, the names are
    resolved again in the same way after `resolve_interval` seconds, and after a call that reached nobody.
    """

    def __init__(
        self,
        context: Context,
        service: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        check_interval: float = 1.0,
        retry_interval: float = 5.0,
        resolve_interval: float = 30.0,
        ready_timeout: float = 10.0,
    ) -> None:
        self._context = context
        self._service = service
        self._addresses = context.endpoints.get(service, ())
        self._follows_names = needs_resolving(self._addresses)
        self._clock = clock
        self._check_interval = check_interval
        self._retry_interval = retry_interval
        self._resolve_interval = resolve_interval
        self._ready_timeout = ready_timeout
        self._rotation = runtime.Lock()  # one at a time; held while connecting
        self._state = threading.Lock()  # guards what follows; never held while waiting
        self._current: Generation | None = None
        self._open: set[Generation] = set()
        self._closed = False
        self._next_check = 0.0
        self._resolved_at = 0.0
        self._task: runtime.Task | None = None
        self._failed: tuple[channel_credentials.Signature | None, float] | None = None

    @property
    def context(self) -> Context:
        """Where its files are."""
        return self._context

    @property
    def description(self) -> str:
        """The service and its addresses, for messages."""
        return f"{self._service} at {', '.join(self._addresses)}"

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    @property
    def open_channels(self) -> int:
        """The number of open channels: the current one, and those that still drain."""
        return len(self._open)

    async def take(self) -> Generation:
        """Return the channel for a new call; give it back when the call has ended.

        Raises `keyreeve.errors` when there is none yet, and the context names no address or its files cannot be used.
        """
        if self._current is None:
            await self._open_first()
        elif self._clock() >= self._next_check:
            self._check()
        with self._state:
            if self._closed or self._current is None:
                raise RuntimeError("the client is closed")
            self._current.users += 1
            return self._current

    async def give_back(self, generation: Generation) -> None:
        """Note that a call has ended; the last one on a replaced channel closes it."""
        with self._state:
            generation.users -= 1
            drained = generation.retired and generation.users == 0
        if drained:
            await self._close(generation)

    async def rotate(self) -> bool:
        """Move to the present files and addresses; say whether they are new.

        Calls go on meanwhile.

        Raises `keyreeve.errors.ContextInvalid` or `keyreeve.errors.ServiceUnreachable` when the files cannot be used;
        the channel then stays as it was.
        """
        async with self._rotation:
            files = channel_credentials.read(self._context)
            target = await self._target()
            current = self._current
            if current is not None and (current.files.digest, current.target) == (files.digest, target):
                current.files = files
                return False
            generation = self._generation(target, files)
            with self._state:
                self._open.add(generation)
            if not await self._is_ready(generation):
                raise ServiceUnreachable(
                    f"the new certificate, bundle or addresses do not connect to {self.description}"
                )
            await self._move_to(generation)
            return True

    async def refresh(self, used: Generation) -> bool:
        """After a failed call on `used`, move on if files or addresses have changed.

        Returns whether there is a newer channel.
        """
        if self._current is used and (self._has_changed(used) or self._may_have_moved(self._check_interval)):
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
        async with self._rotation:
            if self._current is None and not self._closed:
                generation = self._generation(await self._target(), channel_credentials.read(self._context))
                with self._state:
                    self._current = generation
                    self._open.add(generation)
                    self._next_check = self._clock() + self._check_interval

    async def _target(self) -> str:
        addresses = self._context.addresses(self._service)
        if not self._follows_names:
            return target_of(addresses)
        self._resolved_at = self._clock()
        return await runtime.run_blocking(lambda: target_of(addresses))

    def _generation(self, target: str, files: channel_credentials.TlsFiles) -> Generation:
        options = channel_credentials.channel_options(self._context, self._service)
        return Generation(runtime.open_channel(target, files.channel_credentials(), options), target, files)

    def _check(self) -> None:
        with self._state:
            now = self._clock()
            current = self._current
            if current is None or self._closed or now < self._next_check or self._task is not None:
                return
            self._next_check = now + self._check_interval
            if self._has_changed(current) or self._may_have_moved(self._resolve_interval):
                # In the background: this call need not wait for a handshake, the old channel is as good as it was.
                self._task = runtime.spawn(self._rotate_in_background, "keyreeve-rotation")

    def _has_changed(self, current: Generation) -> bool:
        signature = channel_credentials.signature_of(self._context)
        if signature is None or signature == current.files.signature:
            return False
        return self._failed is None or self._failed[0] != signature or self._clock() >= self._failed[1]

    def _may_have_moved(self, seconds: float) -> bool:
        """Whether names are to be resolved again after so many seconds."""
        return self._follows_names and self._clock() >= self._resolved_at + seconds

    async def _rotate_in_background(self) -> None:
        try:
            await self._rotate_quietly()
        finally:
            with self._state:  # `_check` holds it until it has stored the task
                self._task = None

    async def _rotate_quietly(self) -> None:
        signature = channel_credentials.signature_of(self._context)
        try:
            await self.rotate()
            self._failed = None
        except KeyreeveError as failure:
            # Spread, since the clients of one directory all noticed the same change.
            pause = self._retry_interval * random.uniform(0.8, 1.2)  # noqa: S311  # no secret depends on it
            self._failed = (signature, self._clock() + pause)
            _log.warning("keeping the earlier connection to %s: %s", self.description, failure)

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
