"""One call as a handler sees it: which method, who calls, until when, and what to write in a log about it."""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf.message import Message

from keyreeve.identity import Caller

REQUEST_ID_KEY: Final = "x-request-id"
_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What TLS says about the connection; facts for records, never an identity."""

    version: str
    """Such as `TLSv1.3`; empty when the transport did not say."""
    session_reused: bool
    """The handshake resumed an earlier session, so TLS did not look at the client certificate again."""


NO_TLS: Final = TlsFacts("", session_reused=False)

AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC says about the transport, by property name."""


class AuditRecord(Protocol):
    """The audit record of one call in progress, as what carries out the call sees it."""

    handed_in: bool
    """It has been given to the writer: there will be no second one."""
    unread: Callable[[], Message] | None
    """Reads the request of a call that another process answers, should its record be written here after all."""

    def head(self) -> bytes:
        """Return its first part, for a transaction that commits it with what the call does."""
        ...

    def tell(self, field: str, value: str) -> None:
        """Add to what the call is about; never a secret."""
        ...

    def entrust(self, done: "asyncio.Future[Any]") -> None:
        """Leave it to a transaction: it is written if and only if `done` gets a result."""
        ...

    def release(self) -> None:
        """Take it back: no transaction has committed it."""
        ...

    async def written_elsewhere(self) -> bool:
        """Whether a transaction has committed it; waits until that is known."""
        ...


class Call:
    """One call in progress. `deadline` is on the scale of `time.monotonic()`, in seconds; None means no deadline."""

    __slots__ = (
        "_metadata",
        "_request_id",
        "_tls",
        "caller",
        "deadline",
        "message",
        "method",
        "peer",
        "record",
        "subject",
    )

    def __init__(
        self,
        method: str,
        caller: Caller | None = None,
        *,
        deadline: float | None = None,
        peer: str = "",
        tls: TlsFacts | AuthContext = NO_TLS,
        request_id: str | None = None,
        metadata: Metadata = (),
        subject: Caller | None = None,
    ) -> None:
        self.method = method
        """The full name, `/package.Service/Method`."""
        self.caller = caller
        """Whose certificate was verified; None only for methods that are open to anyone."""
        self.subject = subject
        """On whose behalf `caller` calls, once a ticket says so; always None for now."""
        self.deadline = deadline
        self.peer = peer
        """The transport address as gRPC spells it, such as `ipv4:127.0.0.1:51734`."""
        self.message: Message | None = None
        """The request, once it has been read; None for a stream of requests."""
        self.record: AuditRecord | None = None
        """Its audit record; None where nothing is recorded."""
        self._tls = tls
        self._request_id = request_id
        self._metadata = metadata

    def __repr__(self) -> str:
        return f"Call({self.method!r}, caller={self.caller}, request_id={self.request_id!r}, peer={self.peer!r})"

    @property
    def metadata(self) -> Metadata:
        """The metadata that came with the call, unverified; never a source of identity."""
        return self._metadata

    @property
    def request_id(self) -> str:
        """Names this call in logs and answers and decides nothing: from `x-request-id` when that is sane, else made.

        Found on first use: most calls succeed, and nobody asks for it.
        """
        if self._request_id is None:
            self._request_id = _sane_request_id(self._metadata) or f"{_PROCESS}{next(_numbers):016x}"
        return self._request_id

    @property
    def tls(self) -> TlsFacts:
        """What TLS says about the connection."""
        if not isinstance(self._tls, TlsFacts):
            self._tls = _tls_facts(self._tls)
        return self._tls

    @tls.setter
    def tls(self, tls: TlsFacts | AuthContext) -> None:
        self._tls = tls

    def remaining(self) -> float | None:
        """Seconds until the deadline, negative when it has passed; None when there is none."""
        return None if self.deadline is None else self.deadline - time.monotonic()


def _sane_request_id(metadata: Metadata) -> str | None:
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _SANE_REQUEST_ID.match(value):
            return value
    return None


def _tls_facts(auth: AuthContext) -> TlsFacts:
    version = b"".join(auth.get("ssl_tls_version", ()))
    return TlsFacts(version.decode("ascii", "replace"), session_reused=b"true" in auth.get("ssl_session_reused", ()))
