"""EnrolmentService on the main listener: making, revoking and listing tokens. `Enrol` is on the newcomer's listener."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from keyreeve.ca.v1 import enrolment_service_pb2 as pb
from keyreeve.enrolment_token import EnrolmentToken
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve_ca.enrolment_tokens import EnrolmentTokens
from keyreeve_ca.registry import Store, Transaction
from keyreeve_ca.serving.answering import Answering
from keyreeve_ca.serving.messages import caller_of, duration_of, id_of, invalid, timestamp
from keyreeve_ca.serving.pages import Pages
from keyreeve_ca.token_rows import StoredToken, TokenState
from keyreeve_chassis.access import Freshness, Row, Rows
from keyreeve_chassis.call import Call

SERVICE = "/keyreeve.ca.v1.EnrolmentService/"
ELSEWHERE = frozenset({"Enrol"})
"""What only the newcomer's listener serves."""
_MAKERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.CA, Role.MEMBERSHIP})

ACCESS: Rows = {
    SERVICE + "CreateEnrolmentToken": Row(_MAKERS, forwarded=True),
    SERVICE + "RevokeEnrolmentToken": Row(_MAKERS, forwarded=True),
    SERVICE + "ListEnrolmentTokens": Row(_MAKERS | OPERATOR_ROLES, freshness=Freshness.TOLERANT),
}

_TOKEN_ID = re.compile(r"[0-9a-f]{32}\Z")
_STATES: Mapping[TokenState, pb.EnrolmentTokenState.ValueType] = {
    TokenState.OPEN: pb.ENROLMENT_TOKEN_STATE_OPEN,
    TokenState.BOUND: pb.ENROLMENT_TOKEN_STATE_BOUND,
    TokenState.CLOSED: pb.ENROLMENT_TOKEN_STATE_CLOSED,
    TokenState.REVOKED: pb.ENROLMENT_TOKEN_STATE_REVOKED,
}


@dataclass(frozen=True)
class TokenServicer:
    """Answers EnrolmentService, but for `Enrol`."""

    tokens: EnrolmentTokens
    store: Store
    pages: Pages

    async def CreateEnrolmentToken(
        self, request: pb.CreateEnrolmentTokenRequest, call: Call
    ) -> pb.CreateEnrolmentTokenResponse:
        caller = caller_of(call)
        lifetime = None
        if request.HasField("lifetime"):
            lifetime = int(duration_of(request.lifetime, "lifetime").total_seconds())
        made: EnrolmentToken | None = None

        def make(tx: Transaction) -> StoredToken:
            nonlocal made
            stored, made = self.tokens.create(
                tx,
                creator=str(caller.id),
                creator_role=caller.role,
                identity=request.identity,
                lifetime=lifetime,
                address=request.address,
            )
            return stored

        # The stored answer is the token without its secret, which is never on disk.
        answer = self._answering(request, request.request_id, call)
        token = pb.EnrolmentToken.FromString(await answer(make))
        token_id = token_id_of(token.name)
        if made is None or made.token_id != token_id:
            made = await self.store.write(lambda tx: self.tokens.renew_secret(tx, token_id, request.address))
        return pb.CreateEnrolmentTokenResponse(enrolment_token=token, text=made.text())

    async def RevokeEnrolmentToken(self, request: pb.RevokeEnrolmentTokenRequest, call: Call) -> pb.EnrolmentToken:
        token_id = token_id_of(request.name)
        role = caller_of(call).role
        answer = self._answering(request, request.request_id, call)
        return pb.EnrolmentToken.FromString(await answer(lambda tx: self.tokens.revoke(tx, token_id, role)))

    async def ListEnrolmentTokens(
        self, request: pb.ListEnrolmentTokensRequest, call: Call
    ) -> pb.ListEnrolmentTokensResponse:
        page = self.pages.open(call, request)
        rows = await self.store.read(lambda tx: tx.tokens.page(after=bytes.fromhex(page.after), limit=page.size + 1))
        return pb.ListEnrolmentTokensResponse(
            enrolment_tokens=[self._message(row) for row in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].token_id.hex() if len(rows) > page.size else None),
        )

    def _answering(self, request: Message, request_id: str, call: Call) -> Answering[StoredToken]:
        return Answering(self.store, request, request_id, call, lambda _tx, token: self._message(token))

    def _message(self, token: StoredToken) -> pb.EnrolmentToken:
        expired = token.state is TokenState.OPEN and token.expires_at <= self.tokens.now()
        return pb.EnrolmentToken(
            name=token.resource,
            identity=token.identity,
            creator=token.creator,
            state=pb.ENROLMENT_TOKEN_STATE_EXPIRED if expired else _STATES[token.state],
            create_time=timestamp(token.created_at),
            expire_time=timestamp(token.expires_at),
            bind_time=timestamp(token.bound_at),
            end_time=timestamp(token.ended_at),
            certificate=f"certificates/{token.serial.hex()}" if token.serial else "",
            spki_sha256=token.spki_sha256 or b"",
        )


def token_id_of(name: str) -> bytes:
    """The id in `enrolmentTokens/{token}`. Raises `FieldInvalid`."""
    text = id_of(name, "enrolmentTokens")
    if not _TOKEN_ID.match(text):
        raise invalid("name", "a token's id is 32 lower-case hexadecimal digits")
    return bytes.fromhex(text)
