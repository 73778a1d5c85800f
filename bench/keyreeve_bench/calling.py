"""The two clients of a benchmark process: prepared messages over grpc.aio, or `sign` of the SDK."""

import itertools
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from keyreeve import aio, channel_credentials, errors, retry
from keyreeve.context import Context
from keyreeve.errors import KeyreeveError
from keyreeve.status import error_from_rpc
from keyreeve_bench import messages

CONNECT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call."""

    serials: list[bytes]
    """Serial numbers in hexadecimal, one for each certificate."""
    failures: list[tuple[str, str]]
    """Status and reason of each refused item."""
    raw: bytes
    """The encoded response; empty when the SDK decoded it."""
    certificates: list[tuple[bytes, tuple[bytes, ...]]]
    """Certificates with their chains, as the SDK decoded them."""


class Calls(Protocol):
    """Makes calls; `index` identifies the caller, so that each caller keeps one connection."""

    async def connect(self) -> None:
        """Open the connections. Raises `keyreeve.errors`."""

    def take(self) -> bytes:
        """Take the next request; a repeated call sends the same one again."""

    async def call(self, index: int, request: bytes, request_id: str) -> Answer:
        """Send a request. Raises `keyreeve.errors`."""

    async def close(self) -> None:
        """Close the connections."""


class GrpcCalls:
    """Sends prepared messages over its own connections."""

    def __init__(
        self, context: Context, prepared: list[bytes], *, batch: int, connections: int, timeout: float
    ) -> None:
        self._context = context
        self._prepared = itertools.cycle(prepared)
        self._batch = batch
        self._connections = connections
        self._timeout = timeout
        self._channels: list[grpc.aio.Channel] = []
        self._methods: list[Any] = []

    async def connect(self) -> None:
        files = channel_credentials.read(self._context)
        options = channel_credentials.channel_options(self._context, "ca")
        address = self._context.endpoint("ca")
        for _ in range(self._connections):
            channel = grpc.aio.secure_channel(address, files.channel_credentials(), options)
            self._channels.append(channel)
            self._methods.append(channel.unary_unary(messages.method_of(self._batch)))
        for channel in self._channels:
            await _ready(channel, address)

    def take(self) -> bytes:
        return next(self._prepared)

    async def call(self, index: int, request: bytes, request_id: str) -> Answer:
        method = self._methods[index % len(self._methods)]
        try:
            raw: bytes = await method(messages.with_request_id(request, request_id), timeout=self._timeout)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, "ca") from None
        serials = messages.serials_in(raw)
        failures = [] if len(serials) == self._batch else messages.failures_in(raw)
        return Answer(serials, failures, raw, [])

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def _ready(channel: grpc.aio.Channel, address: str) -> None:
    import asyncio

    try:
        await asyncio.wait_for(channel.channel_ready(), CONNECT_SECONDS)
    except TimeoutError:
        raise errors.ServiceUnreachable(f"no connection to {address} within {CONNECT_SECONDS:g} s") from None


class SdkCalls:
    """Calls `sign()` of the SDK as a program would, without retries, so that failures are counted."""

    def __init__(self, context: Context, profile: str, csrs: list[bytes], *, coalesce: bool, timeout: float) -> None:
        self._client = make_client(context, coalesce=coalesce, timeout=timeout)
        self._coalesce = coalesce
        self._profile = profile
        self._csrs = itertools.cycle(csrs)

    async def connect(self) -> None:
        await self._client.profiles.get(self._profile)

    def take(self) -> bytes:
        return next(self._csrs)

    async def call(self, index: int, request: bytes, request_id: str) -> Answer:  # noqa: ARG002  # it has one connection
        # The SDK does not coalesce a call that brings its own request id.
        own_id = None if self._coalesce else request_id
        signed = await self._client.certificates.sign(self._profile, request, request_id=own_id)
        return Answer([signed.serial.encode()], [], b"", [(signed.certificate_der, signed.chain_der)])

    async def close(self) -> None:
        await self._client.close()


def make_client(context: Context, *, coalesce: bool, timeout: float) -> aio.Client:
    """Make a client that does not retry."""
    return aio.Client(context, timeout=timeout, retry=retry.NO_RETRY, coalesce=coalesce)


def pause_after(error: KeyreeveError) -> float:
    """Seconds a closed-loop caller waits after a failure: the service's RetryInfo, or 0.05."""
    return 0.05 if error.retry_after is None else error.retry_after.total_seconds()


def outcome_is_unknown(error: KeyreeveError) -> bool:
    """Whether a call with this error may have been carried out."""
    return error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN", "INTERNAL"}
