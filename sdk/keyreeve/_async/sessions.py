"""Sessions of operators at a gateway, and their tickets."""

from collections.abc import AsyncGenerator, Sequence

from keyreeve import session_wire, wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import operator_session_service_pb2 as pb
from keyreeve.request_ids import new_request_id
from keyreeve.session_values import CertificateProof, OpenedSession, OperatorSession, SshProof, Ticket

_SERVICE = "/keyreeve.ca.v1.OperatorSessionService"


class SessionClient:
    """Operators' sessions; reached as `Client.sessions`.

    `open` and `renew` are for gateways. Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all its
    attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def open(
        self,
        proof: CertificateProof | SshProof,
        *,
        audiences: Sequence[str] = (),
        method_families: Sequence[str] = (),
        client_address: str = "",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> OpenedSession:
        """Open a session of the operator who made the proof (`keyreeve.session_proofs`), or who logs in by SSH.

        `audiences` names the services that are to accept its tickets, `method_families` the gRPC services whose methods
        they are for: all unless given.
        """
        request = pb.OpenSessionRequest(
            **session_wire.proof_field(proof),
            audiences=audiences,
            method_families=method_families,
            client_address=client_address,
            request_id=request_id or new_request_id(),
        )
        response = await self._caller.unary(f"{_SERVICE}/OpenSession", request, pb.OpenSessionResponse, timeout)
        return session_wire.from_opened_session(response)

    async def renew(self, *, timeout: float | None = None) -> Ticket:
        """Get the next ticket of the session whose ticket this client calls with (`Client.on_behalf`)."""
        request = pb.RenewSessionRequest()
        response = await self._caller.unary(f"{_SERVICE}/RenewSession", request, pb.RenewSessionResponse, timeout)
        return session_wire.from_renewed_session(response)

    async def close(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> OperatorSession:
        """Close a session: every service refuses its tickets within seconds."""
        request = pb.CloseSessionRequest(
            name=wire.resource_name("sessions", name), request_id=request_id or new_request_id()
        )
        return session_wire.from_session(
            await self._caller.unary(f"{_SERVICE}/CloseSession", request, pb.OperatorSession, timeout)
        )

    async def list(
        self, *, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[OperatorSession, None]:
        """Iterate over the sessions that have not ended, by name; `timeout` is for each page."""
        request = pb.ListSessionsRequest(page_size=page_size)
        while True:
            page = await self._caller.unary(f"{_SERVICE}/ListSessions", request, pb.ListSessionsResponse, timeout)
            for message in page.sessions:
                yield session_wire.from_session(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
