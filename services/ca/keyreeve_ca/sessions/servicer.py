"""OperatorSessionService: access rules, and messages to values and back."""

import re
from dataclasses import dataclass

from keyreeve.ca.v1 import operator_session_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Caller, Role
from keyreeve.session_values import AUDIENCES, CertificateProof, SshProof
from keyreeve.tickets import SESSION_METHODS
from keyreeve_ca.sessions.ports import Session
from keyreeve_ca.sessions.service import CheckedProof, Scope, Sessions
from keyreeve_ca.sessions.tickets import Tickets
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, id_of, invalid, peer_of, timestamp
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations

_SERVICE = "/keyreeve.ca.v1.OperatorSessionService/"
ACCESS: AccessRules = {
    _SERVICE + "OpenSession": AccessRule(
        frozenset({Role.GATEWAY}), forwarded=True, records=("client_address", "audiences", "method_families")
    ),
    # The present ticket is what entitles to the next one.
    _SERVICE + "RenewSession": AccessRule(on_behalf=OPERATOR_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "CloseSession": AccessRule(OPERATOR_ROLES, forwarded=True).through_gateways,
    _SERVICE + "ListSessions": AccessRule(OPERATOR_ROLES, freshness=Freshness.TOLERANT).through_gateways,
}
MOST_FAMILIES = 32
_LONGEST_ADDRESS = 128
_FAMILY = re.compile(r"keyreeve\.[a-z]{1,32}\.v[0-9]{1,4}\.[A-Za-z]{1,64}\Z")


@dataclass(frozen=True)
class OperatorSessionServicer:
    """Serves OperatorSessionService."""

    sessions: Sessions
    tickets: Tickets
    store: Store
    mutations: Mutations[Transaction]
    pages: Pages

    async def OpenSession(self, request: pb.OpenSessionRequest, call: Call) -> pb.OpenSessionResponse:
        gateway, scope = peer_of(call), _scope(request)
        proof = self._check(request, gateway, scope.client_address)
        await self.tickets.signer.ready()

        def act(tx: Transaction) -> tuple[pb.OpenSessionResponse, tuple[bytes, int]]:
            session = self.sessions.open(tx, gateway, proof, scope)
            return pb.OpenSessionResponse(session=_message(session)), self.tickets.issue(session, gateway.spki_sha256)

        def repeat(tx: Transaction, stored: pb.OpenSessionResponse) -> tuple[bytes, int]:
            session = self.sessions.goes_on(tx, id_of(stored.session.name, "sessions"), gateway)
            return self.tickets.issue(session, gateway.spki_sha256)

        response, (ticket, expires) = await self.mutations.with_secret(call, request, act, repeat, _opened)
        response.ticket = ticket
        response.ticket_expire_time.seconds = expires
        return response

    def _check(self, request: pb.OpenSessionRequest, gateway: Caller, client_address: str) -> CheckedProof:
        if request.HasField("ssh") == request.HasField("certificate"):
            raise invalid("certificate", "a proof is required: with a certificate or by an SSH login")
        if request.HasField("certificate"):
            return self.sessions.check_certificate(gateway, _proof(request.certificate))
        ssh = request.ssh
        proof = SshProof(ssh.session_id, ssh.user_name, ssh.algorithm, ssh.public_key, ssh.signature)
        return self.sessions.check_ssh(proof, client_address)

    async def RenewSession(self, request: pb.RenewSessionRequest, call: Call) -> pb.RenewSessionResponse:
        gateway, session_id = peer_of(call), call.session
        await self.tickets.signer.ready()
        session = await self.store.read(lambda tx: self.sessions.goes_on(tx, session_id, gateway))
        ticket, expires = self.tickets.issue(session, gateway.spki_sha256)
        return pb.RenewSessionResponse(ticket=ticket, ticket_expire_time=timestamp(expires))

    async def CloseSession(self, request: pb.CloseSessionRequest, call: Call) -> pb.OperatorSession:
        session_id, by = id_of(request.name, "sessions"), caller_of(call)
        return await self.mutations(
            call, request, lambda tx: _message(self.sessions.close(tx, session_id, by)), _closed
        )

    async def ListSessions(self, request: pb.ListSessionsRequest, call: Call) -> pb.ListSessionsResponse:
        page, by = self.pages.open(call, request), caller_of(call)
        rows = await self.store.read(lambda tx: self.sessions.page(tx, by, after=page.after, limit=page.size + 1))
        return pb.ListSessionsResponse(
            sessions=[_message(row) for row in rows[: page.size]],
            next_page_token=page.next_token(rows[page.size - 1].session_id if len(rows) > page.size else None),
        )


def _proof(message: pb.CertificateProof) -> CertificateProof:
    if message.time.nanos or message.time.seconds < 0:
        raise invalid("certificate.time", "whole seconds are required")
    return CertificateProof(message.certificate_der, message.nonce, message.time.seconds, message.signature)


def _scope(request: pb.OpenSessionRequest) -> Scope:
    audiences, families, address = set(request.audiences), list(request.method_families), request.client_address
    if not audiences <= set(AUDIENCES):
        raise invalid("audiences", f"of {', '.join(AUDIENCES)}")
    if len(families) > MOST_FAMILIES or not all(map(_FAMILY.match, families)):
        raise invalid("method_families", f"at most {MOST_FAMILIES} names such as keyreeve.ca.v1.OperatorService")
    if len(address) > _LONGEST_ADDRESS or not address.isprintable():
        raise invalid("client_address", f"at most {_LONGEST_ADDRESS} printable characters")
    wanted = tuple(sorted(audiences | {"ca"})) if audiences else AUDIENCES
    return Scope(wanted, tuple(sorted(set(families))), address)


def _message(session: Session) -> pb.OperatorSession:
    return pb.OperatorSession(
        name=f"sessions/{session.session_id}",
        identity=session.identity,
        person_uid=session.person_uid,
        gateway=session.gateway,
        method=SESSION_METHODS[session.method],
        credential=session.credential,
        client_address=session.client_address,
        audiences=session.audiences,
        method_families=session.method_families,
        open_time=timestamp(session.opened_at),
        end_time=timestamp(session.ends_at),
        close_time=timestamp(session.closed_at),
        closer=session.closed_by,
    )


def _opened(response: pb.OpenSessionResponse) -> list[tuple[str, str]]:
    session = response.session
    return [("session", session.name), ("subject", session.identity), ("credential", session.credential)]


def _closed(session: pb.OperatorSession) -> list[tuple[str, str]]:
    return [("subject", session.identity)]
