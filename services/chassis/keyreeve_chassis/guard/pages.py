"""The pages of this service's lists: size and place of one page, bound to its caller, method and filters."""

from dataclasses import dataclass

from google.protobuf.message import Message

from keyreeve_ca.messages import caller_of
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.paging import PageScope, PageSizes, PageTokens

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
