"""Enrolment tokens: let in somebody who has no certificate yet."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import enrolment_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.token_values import NewToken, Token

_SERVICE = "/keyreeve.ca.v1.EnrolmentService"


class TokenClient:
    """The tokens that newcomers enrol with; reached as `Client.tokens`. `keyreeve.enrolment.enrol` uses one.

    Tokens may be named in full (`enrolmentTokens/0190...`) or by their last part. Every method raises `keyreeve.errors`
    and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        identity: str,
        *,
        lifetime: timedelta | None = None,
        address: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> NewToken:
        """Make a token for one SPIFFE ID. Its text holds the secret and is shown this once: nobody keeps it.

        It can be used for the first time within `lifetime`: an hour unless given, a day at most. `address` is `host:port`
        of the newcomer's listener as the newcomer reaches it; the service knows one unless it is reached by another name.
        A repeat with the same `request_id` gets the same token with a fresh secret.
        """
        request = pb.CreateEnrolmentTokenRequest(
            identity=identity,
            lifetime=wire.to_duration(lifetime),
            address=address,
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/CreateEnrolmentToken"
        response = await self._caller.unary(method, request, pb.CreateEnrolmentTokenResponse, timeout)
        return NewToken(wire.from_token(response.enrolment_token), response.text)

    async def revoke(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Token:
        """Revoke a token; a certificate that was issued on its word is not revoked with it."""
        request = pb.RevokeEnrolmentTokenRequest(
            name=wire.resource_name("enrolmentTokens", name), request_id=request_id or new_request_id()
        )
        method = f"{_SERVICE}/RevokeEnrolmentToken"
        return wire.from_token(await self._caller.unary(method, request, pb.EnrolmentToken, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Token, None]:
        """All tokens of the last weeks in the order in which they were made, without their secrets, page by page."""
        request = pb.ListEnrolmentTokensRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListEnrolmentTokens"
            page = await self._caller.unary(method, request, pb.ListEnrolmentTokensResponse, timeout)
            for message in page.enrolment_tokens:
                yield wire.from_token(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
