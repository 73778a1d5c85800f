"""The client of a control plane, which connects to each service on first use."""

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from keyreeve._async.calls import Caller
from keyreeve._async.rotating import RotatingChannel
from keyreeve._async.services import CaClient, CredentialsClient, GatewayClient, MembershipClient, ServiceClient
from keyreeve.context import Context
from keyreeve.retry import RetryPolicy

if TYPE_CHECKING:
    from keyreeve._async.audit import AuditClient
    from keyreeve._async.authorities import AuthorityClient
    from keyreeve._async.certificates import CertificateClient
    from keyreeve._async.issuance import IssuanceClient
    from keyreeve._async.operations import OperationClient
    from keyreeve._async.operators import OperatorClient
    from keyreeve._async.profiles import ProfileClient
    from keyreeve._async.sessions import SessionClient
    from keyreeve._async.tokens import TokenClient
    from keyreeve._async.trust import TrustClient

_CLIENTS: dict[str, type[ServiceClient]] = {
    "credentials": CredentialsClient,
    "gateway": GatewayClient,
    "membership": MembershipClient,
}
"""Clients of the services that have more than what every service has; the CA's is made at once."""


class Client:
    """Calls a control plane as the context says.

    It connects to a service on first use and should be kept and shared: opening a connection costs more than a call. The
    context's files may be replaced at any time; the client moves to the new ones without failing a call. Close it, or use
    it in `with` (`async with` for `keyreeve.aio.Client`, which belongs to the event loop that first used it).
    """

    ca: CaClient
    """The CA service; `certificates` to `trust` are short names for its parts."""

    def __init__(
        self,
        context: Context | str | os.PathLike[str] | None = None,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        coalesce: bool = True,
        ticket: Callable[[], bytes] | None = None,
        channels: dict[str, RotatingChannel] | None = None,
    ) -> None:
        """Use `context`, the context file or directory at a path, or what `Context.load()` finds.

        `timeout` is the time in seconds that a call may take with all its retries; each method takes one of its own.
        `coalesce` lets calls of `certificates.sign` that wait at the same time share a call (docs/sdk.md). `ticket` and
        `channels`, which another client owns, are what `on_behalf` gives.
        Raises `keyreeve.errors.ContextInvalid`.
        """
        self.context = context if isinstance(context, Context) else Context.load(context)
        self._timeout = timeout
        self._policy = retry or RetryPolicy()
        self._closed = False
        self._ticket = ticket
        self._owns_channels = channels is None
        self._channels = {} if channels is None else channels
        channel = self._channel("ca")
        self.ca = CaClient(channel, self._caller(channel), self.context.trust_domain, coalesce=coalesce)
        self._services: dict[str, ServiceClient] = {"ca": self.ca}

    @property
    def certificates(self) -> "CertificateClient":
        """Sign, renew, look up."""
        return self.ca.certificates

    @property
    def authorities(self) -> "AuthorityClient":
        """The private CAs and the trust bundles."""
        return self.ca.authorities

    @property
    def operations(self) -> "OperationClient":
        """The CA's operations: work that continues after the call that started it."""
        return self.ca.operations

    @property
    def profiles(self) -> "ProfileClient":
        """The rules of issuance."""
        return self.ca.profiles

    @property
    def tokens(self) -> "TokenClient":
        """Enrollment tokens."""
        return self.ca.tokens

    @property
    def operators(self) -> "OperatorClient":
        """The people who operate the control plane."""
        return self.ca.operators

    @property
    def sessions(self) -> "SessionClient":
        """Operators' sessions at gateways."""
        return self.ca.sessions

    @property
    def issuance(self) -> "IssuanceClient":
        """The switch that stops issuance everywhere."""
        return self.ca.issuance

    @property
    def audit(self) -> "AuditClient":
        """The CA's audit log."""
        return self.ca.audit

    @property
    def trust(self) -> "TrustClient":
        """What decides about callers, for services."""
        return self.ca.trust

    def service(self, name: str) -> ServiceClient:
        """Return the client of a service, with its operations and its audit log.

        Raises `keyreeve.errors.ContextInvalid` when the context names no address of it.
        """
        self.context.addresses(name)
        if self._closed:
            raise RuntimeError("the client is closed")
        if name not in self._services:
            channel = self._channel(name)
            # Another thread may have been faster; the channel that is dropped was never connected.
            kind = _CLIENTS.get(name, ServiceClient)
            self._services.setdefault(name, kind(channel, self._caller(channel)))
        return self._services[name]

    @property
    def credentials(self) -> CredentialsClient:
        """The credentials service. Raises `keyreeve.errors.ContextInvalid` when the context names no address of it."""
        found = self.service("credentials")
        assert isinstance(found, CredentialsClient)
        return found

    @property
    def membership(self) -> MembershipClient:
        """The membership service. Raises `keyreeve.errors.ContextInvalid` when the context names no address of it."""
        found = self.service("membership")
        assert isinstance(found, MembershipClient)
        return found

    @property
    def gateway(self) -> GatewayClient:
        """The gateway. Raises `keyreeve.errors.ContextInvalid` when the context names no address of it."""
        found = self.service("gateway")
        assert isinstance(found, GatewayClient)
        return found

    def _channel(self, name: str) -> RotatingChannel:
        return self._channels.setdefault(name, RotatingChannel(self.context, name))

    def _caller(self, channel: RotatingChannel) -> Caller:
        return Caller(channel, timeout=self._timeout, policy=self._policy, ticket=self._ticket)

    def on_behalf(self, ticket: Callable[[], bytes]) -> "Client":
        """Return a client that calls on behalf of an operator over this client's connections; for gateways.

        `ticket` is asked at every attempt of a call (`keyreeve.session_values.Ticket.data`). The connections stay this
        client's: they are closed with it alone.
        """
        return Client(
            self.context,
            timeout=self._timeout,
            retry=self._policy,
            coalesce=False,
            ticket=ticket,
            channels=self._channels,
        )

    async def rotate(self) -> bool:
        """Move to the present contents of the context's files.

        Returns whether they are new.

        It concerns the services that have been called, or the CA if none has. Calling it is never necessary: the client
        looks at the files by itself, at most once a second while it is used. Raises `keyreeve.errors.ContextInvalid` or
        `keyreeve.errors.ServiceUnreachable` when they cannot be used.
        """
        in_use = [service for service in tuple(self._services.values()) if service.is_connected] or [self.ca]
        moved = False
        for service in in_use:
            moved |= await service.rotate()
        return moved

    async def close(self) -> None:
        """Close all connections; calls still in flight fail."""
        self._closed = True
        for channel in tuple(self._channels.values()) if self._owns_channels else ():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
