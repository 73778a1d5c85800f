"""Enrollment tokens, for callers without a certificate."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.token_values import NewToken, Token

_SERVICE = "/keyreeve.ca.v1.EnrollmentService"


class TokenClient:
    """Enrollment tokens; reached as `Client.tokens`.

    `keyreeve.enrollment.enroll` uses one.

    Tokens may be named in full (`enrollmentTokens/0190...`) or by their last part. Every method raises `keyreeve.errors`
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
        """Create a token for one SPIFFE ID.

        Its text contains the secret, which is stored nowhere.

        It must be used for the first time within `lifetime`: an hour unless given, a day at most. `address` is `host:port`
        of the enrollment listener as the enrollee reaches it, unless it is the configured one. A repeat with the same
        `request_id` returns the same token with a new secret.
        """
        request = pb.CreateEnrollmentTokenRequest(
            identity=identity,
            lifetime=wire.to_duration(lifetime),
            address=address,
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/CreateEnrollmentToken"
        response = await self._caller.unary(method, request, pb.CreateEnrollmentTokenResponse, timeout)
        return NewToken(wire.from_token(response.enrollment_token), response.text)

    async def revoke(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Token:
        """Revoke a token; a certificate that was issued for it stays valid."""
        request = pb.RevokeEnrollmentTokenRequest(
            name=wire.resource_name("enrollmentTokens", name), request_id=request_id or new_request_id()
        )
        method = f"{_SERVICE}/RevokeEnrollmentToken"
        return wire.from_token(await self._caller.unary(method, request, pb.EnrollmentToken, timeout))

    async def list(self, *, page_size: int = 100, timeout: float | None = None) -> AsyncGenerator[Token, None]:
        """Iterate over the tokens that ended less than 30 days ago, oldest first.

        Secrets are not included.
        """
        request = pb.ListEnrollmentTokensRequest(page_size=page_size)
        while True:
            method = f"{_SERVICE}/ListEnrollmentTokens"
            page = await self._caller.unary(method, request, pb.ListEnrollmentTokensResponse, timeout)
            for message in page.enrollment_tokens:
                yield wire.from_token(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
