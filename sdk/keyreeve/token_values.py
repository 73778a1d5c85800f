"""Values of the calls about enrollment tokens.

All times are aware datetimes in UTC.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class TokenState(StrEnum):
    """The states of an enrollment token."""

    OPEN = "open"
    BOUND = "bound"
    """A key is bound to it."""
    CLOSED = "closed"
    """Its holder has enrolled and made the first call."""
    REVOKED = "revoked"
    EXPIRED = "expired"
    """It was not used in time."""


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
    """When it can no longer be used for the first time."""
    bound_at: datetime | None
    ended_at: datetime | None
    """When it was closed or revoked."""
    certificate: str
    """`certificates/{serial}` that was issued for it; empty when none was."""


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token, and its text for the enrollee."""

    token: Token
    text: str = field(repr=False)
    """It contains the secret, which is not shown again."""
