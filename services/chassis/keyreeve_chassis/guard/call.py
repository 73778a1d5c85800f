"""One call as a handler sees it: method, caller, deadline, facts for the log, and conversions of its messages."""

import asyncio
import hashlib
import itertools
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import errors
from keyreeve.identity import Caller

REQUEST_ID_KEY: Final = "x-request-id"
_PROCESS = secrets.token_hex(8)
_numbers = itertools.count()
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")

Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """Facts about the TLS connection for records; never an identity."""

    version: str
    """Such as `TLSv1.3`; empty when the transport did not say."""
    session_reused: bool
    """The handshake resumed an earlier session, so TLS did not look at the client certificate again."""


NO_TLS: Final = TlsFacts("", session_reused=False)

AuthContext = Mapping[str, Iterable[bytes]]
"""What gRPC says about the transport, by property name."""


class Context(Protocol):
    """One call as the server sees it."""

    @property
    def peer(self) -> str:
        """The transport address, such as `ipv4:127.0.0.1:51734`."""
        ...

    @property
    def metadata(self) -> Metadata: ...

    @property
    def auth(self) -> AuthContext:
        """What TLS says about the connection."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None: the call has none."""
        ...

    async def write(self, message: bytes) -> None:
        """Send one message of a stream; waits while the peer does not read."""
        ...

    def set_metadata(
        self,
        *,
        initial: Iterable[tuple[str, str | bytes]] | None = None,
        trailing: Iterable[tuple[str, str | bytes]] | None = None,
    ) -> None:
        """Set metadata of the answer, before its first message and with its status. Raises `ValueError`."""
        ...


class AuditRecord(Protocol):
    """The audit record of a call in progress, as its handler sees it."""

    handed_in: bool
    """It has been given to the writer: there will be no second one."""
    unread: Callable[[], Message] | None
    """Reads the request of a call that another process answers, should its record be written here after all."""

    head: bytes
    """The record without its outcome, for a transaction that commits it; empty until `prepare`."""
    entrusted: "asyncio.Future[Any] | None"
    """The transaction that commits the record: it is written if and only if this gets a result."""

    def prepare(self) -> None:
        """Make `head`, once the request has been read."""
        ...

    def tell(self, field: str, value: str) -> None:
        """Add to the call's resources; never a secret."""
        ...

    async def written_elsewhere(self) -> bool:
        """Whether a transaction has committed the record; waits until that is known."""
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
        "session",
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
        session: str = "",
    ) -> None:
        self.method = method
        """The full name, `/package.Service/Method`."""
        self.caller = caller
        """Whose certificate was verified; None only for methods that are open to anyone."""
        self.subject = subject
        """On whose behalf `caller` calls, as a ticket says; None: it calls for itself."""
        self.session = session
        """The session of the subject; empty without one."""
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
        """The call's request metadata, unverified; never a source of identity."""
        return self._metadata

    @property
    def request_id(self) -> str:
        """The id of this call in logs and answers; it decides nothing.

        Taken from `x-request-id` when that is well-formed, else generated, on first use.
        """
        if self._request_id is None:
            self._request_id = _sane_request_id(self._metadata) or f"{_PROCESS}{next(_numbers):016x}"
        return self._request_id

    @property
    def tls(self) -> TlsFacts:
        """Facts about the TLS connection."""
        if not isinstance(self._tls, TlsFacts):
            self._tls = _tls_facts(self._tls)
        return self._tls

    @tls.setter
    def tls(self, tls: TlsFacts | AuthContext) -> None:
        self._tls = tls

    def remaining(self) -> float | None:
        """Seconds until the deadline, negative after it; None without a deadline."""
        return None if self.deadline is None else self.deadline - time.monotonic()


def _sane_request_id(metadata: Metadata) -> str | None:
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _SANE_REQUEST_ID.match(value):
            return value
    return None


def _tls_facts(auth: AuthContext) -> TlsFacts:
    version = b"".join(auth.get("ssl_tls_version", ()))
    return TlsFacts(version.decode("ascii", "replace"), session_reused=b"true" in auth.get("ssl_session_reused", ()))


K = TypeVar("K")
T = TypeVar("T")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


def caller_of(call: Call) -> Caller:
    """Return whose rights count: the operator on whose behalf a gateway calls, or else the caller.

    Access rules refuse calls without an identity, so there is one.
    """
    return peer_of(call) if call.subject is None else call.subject


def peer_of(call: Call) -> Caller:
    """The holder of the certificate with which the call was made."""
    assert call.caller is not None, "no method of this service is open to anyone"
    return call.caller


def invalid(field: str, description: str) -> errors.KeyreeveError:
    """Build the refusal of one field."""
    return errors.FieldInvalid(f"{field}: {description}", violations=[errors.Violation(field, description)])


def request_id_of(text: str) -> str:
    """Check the id of a mutation."""
    if not _UUID.match(text):
        raise errors.RequestIdInvalid("request_id must be a UUID in lower case, such as uuidgen prints")
    return text


def payload_sha256(request: Message) -> bytes:
    """Hash a request, so that one id cannot stand for two payloads."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def id_of(name: str, collection: str, field: str = "name") -> str:
    """The last segment of a resource name such as `authorities/{authority}`."""
    prefix, _, last = name.partition("/")
    if prefix != collection or not last or "/" in last or not last.isprintable():
        raise invalid(field, f"a name of the form {collection}/... is required")
    return last


def printable(text: str, field: str) -> str:
    """Return search text.

    Raises `FieldInvalid` for control characters, which no certificate and no database contains.
    """
    if not text.isprintable():
        raise invalid(field, "control characters are refused")
    return text


def chosen(values: Mapping[K, T], number: K, field: str) -> T:
    """The name of an enum value. Unknown and unspecified numbers are refused."""
    found = values.get(number)
    if found is None:
        raise invalid(field, "unspecified, or a value that this release does not know")
    return found


def duration_of(message: Duration, field: str) -> timedelta:
    """A positive duration in whole seconds, below ten thousand years."""
    if message.nanos or not 0 < message.seconds < 10_000 * 366 * 86_400:
        raise invalid(field, "a positive number of whole seconds is required")
    return timedelta(seconds=message.seconds)


def timestamp(seconds: int | None) -> Timestamp | None:
    """Seconds since 1970 as a Timestamp; None stays unset."""
    return None if seconds is None else Timestamp(seconds=seconds)


def number_of(values: Mapping[K, T], value: T) -> K:
    """The number of an enum value's name."""
    return next(number for number, known in values.items() if known == value)


def let_go(call: Call) -> None:
    """Break the reference cycle of a call that is over and its record.

    Otherwise the garbage collector frees both and what they hold: 30 MB more in each worker under batches of 100. A canceled
    call keeps its record, which its commit may still need.
    """
    call.record = None
