"""Pages of a list: size, and page tokens bound to their caller.

A token is `base64url(version ‖ tag ‖ position)`: the position in the list as the store understands it, and an
HMAC-SHA-256 over it together with the caller, the method and the filters. So a token cannot be forged, nor used by
another caller or with other filters.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from google.protobuf.message import Message

from keyreeve.errors import FieldInvalid, PageTokenInvalid, Violation
from keyreeve.length_prefix import length_prefixed
from keyreeve_chassis.guard.call import Call, caller_of

_VERSION = b"\x01"
_TAG_BYTES = 16
MIN_KEY_BYTES = 32
MAX_TOKEN_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class PageSizes:
    """The page sizes of one list."""

    default: int = 50
    most: int = 1000

    def clamp(self, asked: int, field: str = "page_size") -> int:
        """Return the size to use: 0 is the default, and larger sizes become the maximum (AIP-158).

        Raises `FieldInvalid` for a negative size.
        """
        if asked < 0:
            raise FieldInvalid(
                f"{field} is {asked}; it is 0 (for {self.default}) or from 1 to {self.most}",
                violations=[Violation(field, "must not be negative")],
            )
        return min(asked, self.most) if asked else self.default


@dataclass(frozen=True, slots=True)
class PageScope:
    """What a token is valid for: caller, method and filters."""

    caller: str
    method: str
    filters: bytes
    """The request's filters in one unambiguous form, such as the serialized message without page size and token."""

    def bound(self) -> bytes:
        """The bytes that the tag covers."""
        return length_prefixed(self.caller.encode(), self.method.encode(), hashlib.sha256(self.filters).digest())


class PageTokens:
    """Makes and verifies page tokens with one key that all replicas share."""

    def __init__(self, key: bytes) -> None:
        """Take a secret key of at least 32 bytes."""
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the page token key has {len(key)} bytes and needs {MIN_KEY_BYTES}")
        self._key = key

    def make(self, scope: PageScope, position: bytes) -> str:
        """Return the token for the page after `position`."""
        return base64.urlsafe_b64encode(_VERSION + self._tag(scope, position) + position).decode().rstrip("=")

    def read(self, scope: PageScope, token: str) -> bytes | None:
        """Return the position; None for the empty token, which is the first page.

        Raises `PageTokenInvalid` for anything that `make` did not return for the same scope and key.
        """
        if not token:
            return None
        raw = _decode(token)
        tag, position = raw[1 : 1 + _TAG_BYTES], raw[1 + _TAG_BYTES :]
        if raw[:1] != _VERSION or not hmac.compare_digest(tag, self._tag(scope, position)):
            raise _refused()
        # Base64 has several spellings of the same bytes; only ours is a token.
        if self.make(scope, position) != token:
            raise _refused()
        return position

    def _tag(self, scope: PageScope, position: bytes) -> bytes:
        return hmac.digest(self._key, _VERSION + scope.bound() + position, "sha256")[:_TAG_BYTES]


def _decode(token: str) -> bytes:
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise _refused()
    try:
        return base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _refused() from None


def _refused() -> PageTokenInvalid:
    return PageTokenInvalid("the page token does not belong to this list, its filters and this caller")


_SIZES = PageSizes(default=50, most=500)


@dataclass(frozen=True, slots=True)
class Page:
    """One page: rows after `after`, `size` of them."""

    size: int
    after: str
    _tokens: PageTokens
    _scope: PageScope

    def next_token(self, last: str | None) -> str:
        """The token of the page after the row `last`; empty at the end."""
        return "" if last is None else self._tokens.make(self._scope, last.encode())


@dataclass(frozen=True, slots=True)
class Pages:
    """Opens pages; all replicas share the key of `tokens`."""

    tokens: PageTokens

    def open(self, call: Call, request: Message, sizes: PageSizes = _SIZES) -> Page:
        """Return the requested page. Raises `FieldInvalid`, `PageTokenInvalid`."""
        filters = type(request)()
        filters.CopyFrom(request)
        filters.ClearField("page_size")
        filters.ClearField("page_token")
        scope = PageScope(str(caller_of(call)), call.method, filters.SerializeToString(deterministic=True))
        size, token = getattr(request, "page_size"), getattr(request, "page_token")  # noqa: B009 - every list has both
        position = self.tokens.read(scope, token)
        return Page(sizes.clamp(size), (position or b"").decode(), self.tokens, scope)
