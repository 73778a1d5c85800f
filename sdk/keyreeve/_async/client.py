"""The client: one object, one connection, the services as attributes."""

from types import TracebackType
from typing import Self

from keyreeve._async.audit import AuditClient
from keyreeve._async.authorities import AuthorityClient
from keyreeve._async.calls import Caller
from keyreeve._async.certificates import CertificateClient
from keyreeve._async.issuance import IssuanceClient
from keyreeve._async.operations import OperationClient
from keyreeve._async.operators import OperatorClient
from keyreeve._async.profiles import ProfileClient
from keyreeve._async.rotating import RotatingChannel
from keyreeve._async.tokens import TokenClient
from keyreeve.context import Context
from keyreeve.retry import RetryPolicy


class Client:
    """Calls a control plane as the context says.

    It connects on first use and should be kept and shared: opening a connection costs more than a call. The context's
    files may be replaced at any time; the client moves to the new ones without failing a call. Close it, or use it in
    `with` (`async with` for `keyreeve.aio.Client`, which belongs to the event loop that first used it).
    """

    certificates: CertificateClient
    """Sign, renew, look up."""
    authorities: AuthorityClient
    """The private CAs and the trust bundles."""
    operations: OperationClient
    """Work that outlasts a call."""
    profiles: ProfileClient
    """The rules of issuance."""
    tokens: TokenClient
    """What enrollees enroll with."""
    operators: OperatorClient
    """The people who operate the control plane."""
    issuance: IssuanceClient
    """The switch that stops issuance everywhere."""
    audit: AuditClient
    """Who did what."""

    def __init__(
        self,
        context: Context | None = None,
        *,
        timeout: float = 30.0,
        retry: RetryPolicy | None = None,
        coalesce: bool = True,
    ) -> None:
        """Use `context`, or the one that `Context.load()` finds.

        `timeout` is the time in seconds that a call may take with all its retries; each method takes one of its own.
        `coalesce` lets calls of `certificates.sign` that wait at the same time share a call (docs/sdk.md).
        Raises `keyreeve.errors.ContextInvalid`.
        """
        self.context = Context.load() if context is None else context
        self._channel = RotatingChannel(self.context, "ca")
        caller = Caller(self._channel, timeout=timeout, policy=retry or RetryPolicy())
        self.certificates = CertificateClient(caller, self.context.trust_domain, coalesce=coalesce)
        self.authorities = AuthorityClient(caller)
        self.operations = OperationClient(caller)
        self.profiles = ProfileClient(caller)
        self.tokens = TokenClient(caller)
        self.operators = OperatorClient(caller)
        self.issuance = IssuanceClient(caller)
        self.audit = AuditClient(caller)

    async def rotate(self) -> bool:
        """Move to what the context's files hold now, and say whether that is anything new.

        Nobody has to call this: the client looks at the files by itself, at most once a second while it is used. Raises
        `keyreeve.errors.ContextInvalid` or `keyreeve.errors.ServiceUnreachable` when they cannot be used.
        """
        return await self._channel.rotate()

    async def close(self) -> None:
        """Close the connection; calls still in flight fail."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
