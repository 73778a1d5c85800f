"""Requests without their secrets, for the records of idempotency."""

import hmac
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import Message

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class SecretMasking:
    """Replaces the secret of a request by its keyed hash, so that no stored hash of a request allows guesses at it."""

    key: bytes

    def masked(self, request: M, field: str = "secret") -> M:
        """Return a copy of a request that differs where the secret differs."""
        copy = type(request)()
        copy.CopyFrom(request)
        setattr(copy, field, self.digest(getattr(request, field)))
        return copy

    def digest(self, secret: bytes) -> bytes:
        """Return the keyed hash of a secret."""
        return hmac.digest(self.key, secret, "sha256")
