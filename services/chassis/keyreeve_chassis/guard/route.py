"""How the server runs the calls of a method under the guard."""

from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass

from keyreeve.errors import KeyreeveError
from keyreeve_chassis.guard.call import Context
from keyreeve_chassis.guard.failures import Refusal
from keyreeve_chassis.guard.router import Kind

ServeUnary = Callable[[bytes, Context], Awaitable[bytes | Refusal]]
"""Answers the one request with the one response."""
ServeStream = Callable[[bytes | AsyncIterable[bytes], Context], Awaitable[Refusal | None]]
"""Answers through `Context.write`; None: well."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the server runs the calls of one method. One that is cancelled or past its deadline is cancelled as a task."""

    kind: Kind
    unary: ServeUnary | None
    """For `Kind.UNARY` alone."""
    stream: ServeStream | None
    """For all other kinds."""
    check: Callable[[Context], KeyreeveError | None]
    """Decides by the headers alone whether the call is refused, before its request has arrived."""
    refuse: Callable[[KeyreeveError, Context], Awaitable[Refusal | None]]
    """Records a call that `check` has refused."""
    request_bytes: int = 2 * 1024 * 1024
    """Of its largest request."""
