"""Enrollment tokens as the use cases see them: stored tokens and the port to them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

TOKENS = "tokens"
"""Topic of enrollment tokens that led to a certificate or stopped being bound."""


class TokenState(StrEnum):
    """`open -> bound -> closed`, and `revoked` from the first two. An expired unused token stays open."""

    OPEN = "open"
    BOUND = "bound"
    CLOSED = "closed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One stored token. Times are seconds since 1970, UTC."""

    token_id: bytes
    """16 octets; later tokens sort later."""
    identity: str
    creator: str
    """SPIFFE ID of its creator."""
    root_sha256: bytes
    sealed_keys: bytes | None = field(repr=False)
    """The three keys, sealed; None once they have been erased."""
    state: TokenState
    created_at: int
    expires_at: int
    """From this second on it cannot be used for the first time."""
    spki_sha256: bytes | None = None
    bound_at: int | None = None
    ended_at: int | None = None
    serial: bytes | None = None
    """Of the certificate that was issued with it."""


class TokenRows(Protocol):
    """The tokens in one database transaction. Writing methods raise in a read transaction."""

    def add(self, token: StoredToken) -> None: ...
    def get(self, token_id: bytes, *, current: bool = False) -> StoredToken | None:
        """Read a token. With `current`, one is refused while an earlier state of any may have been put back."""
        ...

    def page(self, *, after: bytes, limit: int) -> Sequence[StoredToken]:
        """Tokens in order of id, from the one after `after`."""
        ...

    def any_for(self, identity: str, now: int) -> bool:
        """Whether a token for this identity is open and unexpired, or bound."""
        ...

    def replaced(self, token_id: bytes, *, repeated: bool) -> Sequence[bytes]:
        """Serial numbers that other tokens of the same identity and creator led to, bound no later than this one.

        `repeated`: only those bound earlier, since one of the same second may have come after it.
        """
        ...

    def rekey(self, token_id: bytes, sealed_keys: bytes, now: int) -> bool:
        """Replace the keys of an open, unexpired token; False when it is neither."""
        ...

    def bind(self, token_id: bytes, spki_sha256: bytes, now: int) -> bool:
        """Bind an open, unexpired token to a key; False when it is not open.

        One statement decides between concurrent enrollees. Raises `KeyReused` when the key belongs to another identity.
        """
        ...

    def issued(self, token_id: bytes, serial: bytes) -> None:
        """Record which certificate a bound token led to."""
        ...

    def revoke(self, token_id: bytes, now: int) -> bool:
        """Revoke an open or bound token; False when it is neither."""
        ...

    def revoke_made_by(self, creators: Collection[str], now: int) -> int:
        """Revoke every open or bound token that these identities created; return how many."""
        ...

    def close(self, serial: bytes, now: int) -> bool:
        """Close the bound token of this certificate and erase its keys; False when there is none."""
        ...

    def pending(self) -> Sequence[bytes]:
        """Serial numbers of the certificates of bound tokens: the first call with one closes its token."""
        ...

    def tidy(self, now: int) -> int:
        """Close tokens bound long ago, erase keys of expired tokens, delete tokens that ended long ago."""
        ...
