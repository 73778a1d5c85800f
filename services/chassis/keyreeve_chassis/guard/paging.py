"""Pages of a list: how many, and where the next one begins, in a token that only its owner can use.

A token is `base64url(version ‖ tag ‖ position)`: the position in the list as the store understands it, and an
HMAC-SHA-256 over it together with the caller, the method and the filters. So a token cannot be forged, moved to
another list, or used by somebody else to read from the middle of a list that the caller may not see.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from google.protobuf.message import Message

from keyreeve.errors import FieldInvalid, PageTokenInvalid, Violation
from keyreeve.length_prefix import length_prefixed
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.messages import caller_of

_VERSION = b"\x01"
_TAG_BYTES = 16
MIN_KEY_BYTES = 32
MAX_TOKEN_CHARACTERS = 2048


@dataclass(frozen=True, slots=True)
class PageSizes:
    """The sizes of one list's pages."""

    default: int = 50
    most: int = 1000

    def clamp(self, asked: int, field: str = "page_size") -> int:
        """Return the size to use: 0 means the default, more than the most means the most (AIP-158).

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
    """What a token is good for."""

    caller: str
    method: str
    filters: bytes
    """The request's filters in one unambiguous form, such as the serialized message without page size and token."""

    def bound(self) -> bytes:
        """Return the scope in the one form that the tag covers."""
        return length_prefixed(self.caller.encode(), self.method.encode(), hashlib.sha256(self.filters).digest())


class PageTokens:
    """Makes and checks tokens with one key, which all replicas of a service share."""

    def __init__(self, key: bytes) -> None:
        """Take a secret key of at least 32 bytes."""
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the page token key has {len(key)} bytes and needs {MIN_KEY_BYTES}")
        self._key = key

    def make(self, scope: PageScope, position: bytes) -> str:
        """Return the token of the page that begins after `position`."""
        return base64.urlsafe_b64encode(_VERSION + self._tag(scope, position) + position).decode().rstrip("=")

    def read(self, scope: PageScope, token: str) -> bytes | None:
        """Return the position, or None for the empty token, which is the first page.

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
        """The token of the page after the row `last`; empty when there is none."""
        return "" if last is None else self._tokens.make(self._scope, last.encode())


@dataclass(frozen=True, slots=True)
class Pages:
    """Opens pages; all replicas share the key of `tokens`."""

    tokens: PageTokens

    def open(self, call: Call, request: Message) -> Page:
        """The page that a list request asks for. Raises `FieldInvalid`, `PageTokenInvalid`."""
        filters = type(request)()
        filters.CopyFrom(request)
        filters.ClearField("page_size")
        filters.ClearField("page_token")
        scope = PageScope(str(caller_of(call)), call.method, filters.SerializeToString(deterministic=True))
        size, token = getattr(request, "page_size"), getattr(request, "page_token")  # noqa: B009 - every list has both
        position = self.tokens.read(scope, token)
        return Page(_SIZES.clamp(size), (position or b"").decode(), self.tokens, scope)
