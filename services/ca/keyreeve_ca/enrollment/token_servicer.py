"""EnrollmentService on the main listener: create, revoke and list tokens."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve_ca.enrollment.ports import StoredToken, TokenState
from keyreeve_ca.enrollment.tokens import EnrollmentTokens
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, duration_of, id_of, invalid, timestamp
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations

SERVICE = "/keyreeve.ca.v1.EnrollmentService/"
EXCLUDED_METHODS = frozenset({"Enroll", "ExchangeServiceAccountToken", "RenewExpired"})
"""What only the enrollment listener serves."""
_MAKERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.CA, Role.MEMBERSHIP})

ACCESS: AccessRules = {
    SERVICE + "CreateEnrollmentToken": AccessRule(_MAKERS, forwarded=True, records=("identity",)),
    SERVICE + "RevokeEnrollmentToken": AccessRule(_MAKERS, forwarded=True),
    SERVICE + "ListEnrollmentTokens": AccessRule(_MAKERS | OPERATOR_ROLES, freshness=Freshness.TOLERANT),
}

_TOKEN_ID = re.compile(r"[0-9a-f]{32}\Z")
_STATES: Mapping[TokenState, pb.EnrollmentTokenState.ValueType] = {
    TokenState.OPEN: pb.ENROLLMENT_TOKEN_STATE_OPEN,
    TokenState.BOUND: pb.ENROLLMENT_TOKEN_STATE_BOUND,
    TokenState.CLOSED: pb.ENROLLMENT_TOKEN_STATE_CLOSED,
    TokenState.REVOKED: pb.ENROLLMENT_TOKEN_STATE_REVOKED,
}


@dataclass(frozen=True)
class TokenServicer:
    """Serves EnrollmentService, except what the enrollment listener serves."""

    tokens: EnrollmentTokens
    store: Store
    mutations: Mutations[Transaction]
    pages: Pages

    async def CreateEnrollmentToken(
        self, request: pb.CreateEnrollmentTokenRequest, call: Call
    ) -> pb.CreateEnrollmentTokenResponse:
        caller = caller_of(call)
        lifetime = None
        if request.HasField("lifetime"):
            lifetime = int(duration_of(request.lifetime, "lifetime").total_seconds())

        def create(tx: Transaction) -> tuple[pb.CreateEnrollmentTokenResponse, EnrollmentToken]:
            stored, token = self.tokens.create(
                tx,
                creator=str(caller.id),
                creator_role=caller.role,
                identity=request.identity,
                lifetime=lifetime,
                address=request.address,
            )
            return pb.CreateEnrollmentTokenResponse(enrollment_token=self._message(stored)), token

        def renew_secret(tx: Transaction, stored: pb.CreateEnrollmentTokenResponse) -> EnrollmentToken:
            token_id = token_id_of(stored.enrollment_token.name)
            return self.tokens.renew_secret(tx, token_id, request.address)

        response, token = await self.mutations.with_secret(
            call, request, create, renew_secret, lambda made: [("name", made.enrollment_token.name)]
        )
        response.text = token.text()
        return response

    async def RevokeEnrollmentToken(self, request: pb.RevokeEnrollmentTokenRequest, call: Call) -> pb.EnrollmentToken:
        token_id = token_id_of(request.name)
        role = caller_of(call).role
        return await self.mutations(call, request, lambda tx: self._message(self.tokens.revoke(tx, token_id, role)))

    async def ListEnrollmentTokens(
        self, request: pb.ListEnrollmentTokensRequest, call: Call
    ) -> pb.ListEnrollmentTokensResponse:
        page = self.pages.open(call, request)
        rows = await self.store.read(lambda tx: tx.tokens.page(after=bytes.fromhex(page.after), limit=page.size + 1))
        return pb.ListEnrollmentTokensResponse(
            enrollment_tokens=[self._message(row) for row in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].token_id.hex() if len(rows) > page.size else None),
        )

    def _message(self, token: StoredToken) -> pb.EnrollmentToken:
        expired = token.state is TokenState.OPEN and token.expires_at <= self.tokens.now()
        return pb.EnrollmentToken(
            name=f"enrollmentTokens/{token.token_id.hex()}",
            identity=token.identity,
            creator=token.creator,
            state=pb.ENROLLMENT_TOKEN_STATE_EXPIRED if expired else _STATES[token.state],
            create_time=timestamp(token.created_at),
            expire_time=timestamp(token.expires_at),
            bind_time=timestamp(token.bound_at),
            end_time=timestamp(token.ended_at),
            certificate=f"certificates/{token.serial.hex()}" if token.serial else "",
            spki_sha256=token.spki_sha256 or b"",
        )


def token_id_of(name: str) -> bytes:
    """The id in `enrollmentTokens/{token}`. Raises `FieldInvalid`."""
    text = id_of(name, "enrollmentTokens")
    if not _TOKEN_ID.match(text):
        raise invalid("name", "a token's id is 32 lower-case hexadecimal digits")
    return bytes.fromhex(text)
