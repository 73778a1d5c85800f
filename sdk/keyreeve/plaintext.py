"""`Plaintext`: a secret in memory that is not printed, logged, hashed or pickled by accident.

Imports only the standard library.
"""

import hmac
from typing import NoReturn

HIDDEN = "***"


class Plaintext:
    """A secret. It is shown as `***`; `reveal` and `text` are the ways to its value."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    @classmethod
    def of(cls, text: str) -> "Plaintext":
        """Hold a text, as UTF-8."""
        return cls(text.encode())

    def reveal(self) -> bytes:
        """Return the bytes."""
        return self._value

    def text(self) -> str:
        """Return the bytes as text. Raises `UnicodeDecodeError`, without the bytes in its message."""
        try:
            return self._value.decode()
        except UnicodeDecodeError as error:
            raise UnicodeDecodeError(error.encoding, b"", 0, 1, "the secret is not UTF-8") from None

    def __repr__(self) -> str:
        return HIDDEN

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, _specification: str) -> str:
        return HIDDEN

    def __len__(self) -> int:
        return len(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare in a time that depends on the lengths alone."""
        return isinstance(other, Plaintext) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a hash would tell equal secrets apart in public

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")
