"""Enrollment tokens as the use cases see them: what is stored of one, and the port to the rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class TokenState(StrEnum):
    """`open -> bound -> closed`, and `revoked` from the first two. A token that nobody used in time stays open."""

    OPEN = "open"
    BOUND = "bound"
    CLOSED = "closed"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class StoredToken:
    """One row. Times are seconds since 1970, UTC."""

    token_id: bytes
    """16 octets; later tokens sort later."""
    identity: str
    creator: str
    """SPIFFE ID of whoever made it."""
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
    """Of the certificate that was issued on its word."""

    @property
    def resource(self) -> str:
        """Its name in the contract."""
        return f"enrollmentTokens/{self.token_id.hex()}"


class TokenRows(Protocol):
    """The tokens in one database transaction. In a read the writing methods raise."""

    def add(self, token: StoredToken) -> None: ...
    def get(self, token_id: bytes) -> StoredToken | None: ...
    def page(self, *, after: bytes, limit: int) -> Sequence[StoredToken]:
        """Tokens in order of id, from the one after `after`."""
        ...

    def rekey(self, token_id: bytes, sealed_keys: bytes, now: int) -> bool:
        """Replace the keys of a token that is open and has not expired; False: it is not."""
        ...

    def bind(self, token_id: bytes, spki_sha256: bytes, now: int) -> bool:
        """Bind an open token that has not expired to a key: one statement decides between all who try. False: not open.

        Raises `KeyReused` when the key belongs to another identity.
        """
        ...

    def issued(self, token_id: bytes, serial: bytes) -> None:
        """Note which certificate a bound token led to."""
        ...

    def revoke(self, token_id: bytes, now: int) -> bool:
        """Revoke an open or bound token; False: it is neither."""
        ...

    def revoke_made_by(self, creator: str, now: int) -> int:
        """Revoke every open token that somebody made; how many there were. For when a role is taken from a person."""
        ...

    def close(self, serial: bytes, now: int) -> bool:
        """Close the bound token that led to this certificate and erase its keys; False: there is none."""
        ...

    def pending(self) -> Sequence[bytes]:
        """Serial numbers of the certificates whose tokens are bound: the first call with one closes its token."""
        ...

    def tidy(self, now: int) -> int:
        """Close tokens that were bound long enough ago, erase keys that nobody can use, forget what ended long ago."""
        ...
