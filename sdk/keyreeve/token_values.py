"""What calls about enrollment tokens take and give: plain values. All times are aware datetimes in UTC."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class TokenState(StrEnum):
    """The life of an enrollment token."""

    OPEN = "open"
    BOUND = "bound"
    """A key is bound to it."""
    CLOSED = "closed"
    """It has served its purpose."""
    REVOKED = "revoked"
    EXPIRED = "expired"
    """Nobody used it in time."""


@dataclass(frozen=True, slots=True)
class Token:
    """An enrollment token, without its secret."""

    name: str
    """`enrollmentTokens/{token}`."""
    identity: str
    """The SPIFFE ID that its holder may claim."""
    creator: str
    state: TokenState
    created_at: datetime
    expires_at: datetime
    """From when it can no longer be used for the first time."""
    bound_at: datetime | None
    ended_at: datetime | None
    """When it was closed or revoked."""
    certificate: str
    """`certificates/{serial}` that was issued on its word; empty when none was."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that has just been made, and the text to hand to the enrollee."""

    token: Token
    text: str = field(repr=False)
    """It holds the secret, and is shown this once."""
