"""The RPCs of the enrollment listener, the only ones for callers without a certificate."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from keyreeve import errors
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve_ca.arrays.expired_renewal import ExpiredRenewal
from keyreeve_ca.enrollment.service import Enrollment, Hello
from keyreeve_ca.enrollment.token_servicer import SERVICE
from keyreeve_ca.issuance.renewal import Proof
from keyreeve_ca.messages import serial_of
from keyreeve_ca.service_accounts.service import ServiceAccountExchange
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.admission import PerAddress
from keyreeve_chassis.guard.call import Call, invalid

ACCESS: AccessRules = {
    SERVICE + "Enroll": AccessRule(anyone=True, freshness=Freshness.EXEMPT),
    SERVICE + "ExchangeServiceAccountToken": AccessRule(anyone=True, freshness=Freshness.EXEMPT),
    SERVICE + "RenewExpired": AccessRule(anyone=True, freshness=Freshness.EXEMPT),
}
EXCLUDED_METHODS = frozenset({"CreateEnrollmentToken", "RevokeEnrollmentToken", "ListEnrollmentTokens"})

_LONGEST_TOKEN = 16_384
_ENROLLMENTS = Counter(
    "keyreeve_ca_enrollments_total", "Ends of enrollments, by reason; OK for a certificate.", ["reason"]
)
for _reason in ("OK", errors.ClockSkewed.reason):
    _ENROLLMENTS.labels(_reason)  # an alert sees a rise from 0, and not a series that begins with 1


@dataclass(frozen=True)
class EnrollServicer:
    """Serves the RPCs for callers without a certificate that is valid."""

    enrollment: Enrollment
    accounts: ServiceAccountExchange
    expired: ExpiredRenewal
    limits: PerAddress
    endpoints: Callable[[], Mapping[str, Sequence[str]]]

    async def Enroll(self, requests: AsyncIterator[pb.EnrollRequest], call: Call) -> AsyncIterator[pb.EnrollResponse]:
        with self.limits.admit(call.peer):
            try:
                async for response in self._enroll(requests, call):
                    yield response
            except errors.KeyreeveError as refused:
                _ENROLLMENTS.labels(refused.reason).inc()
                raise

    async def ExchangeServiceAccountToken(
        self, request: pb.ExchangeServiceAccountTokenRequest, call: Call
    ) -> pb.ExchangeServiceAccountTokenResponse:
        with self.limits.admit(call.peer):
            if not 1 <= len(request.token) <= _LONGEST_TOKEN or not request.token.isascii():
                raise invalid("token", f"1 to {_LONGEST_TOKEN} ASCII characters are required")
            record = call.record
            tell = (lambda *_: None) if record is None else record.tell
            text = await self.accounts.exchange(request.token, request.address, tell)
            return pb.ExchangeServiceAccountTokenResponse(text=text)

    async def RenewExpired(self, request: pb.RenewExpiredRequest, call: Call) -> pb.RenewExpiredResponse:
        with self.limits.admit(call.peer):
            proof = Proof(request.proof.nonce, request.proof.signature) if request.HasField("proof") else None
            chain = await self.expired.renew(serial_of(request.name), request.csr, proof, call.record)
            return pb.RenewExpiredResponse(chain_der=chain)

    async def _enroll(self, requests: AsyncIterator[pb.EnrollRequest], call: Call) -> AsyncIterator[pb.EnrollResponse]:
        hello = _hello((await _next(requests, "hello")).hello)
        session = await self.enrollment.challenge(hello)
        transcript = session.transcript
        yield pb.EnrollResponse(
            challenge=pb.EnrollChallenge(
                server_nonce=transcript.server_nonce,
                server_time=transcript.server_time,
                identity=transcript.name,
                trust_root=transcript.trust_root,
                server_mac=session.server_mac,
            )
        )
        proof = (await _next(requests, "proof")).proof
        result = await self.enrollment.result(session, proof.csr, proof.client_mac, call.record)
        _ENROLLMENTS.labels("OK").inc()
        yield pb.EnrollResponse(
            result=pb.EnrollResult(
                chain_der=result.chain_der,
                trust_root=result.trust_root,
                result_mac=result.result_mac,
                endpoints={
                    service: pb.ServiceAddresses(addresses=addresses) for service, addresses in self.endpoints().items()
                },
                roots_der=result.roots_der,
                roots_mac=result.roots_mac,
            )
        )


async def _next(requests: AsyncIterator[pb.EnrollRequest], step: str) -> pb.EnrollRequest:
    request = await anext(requests, None)
    if request is None or request.WhichOneof("step") != step:
        raise invalid("step", f"{step} is expected here")
    return request


def _hello(message: pb.EnrollHello) -> Hello:
    if len(message.token_id) != 16:
        raise invalid("hello.token_id", "16 octets are required")
    if len(message.client_nonce) != 32:
        raise invalid("hello.client_nonce", "32 octets are required")
    if message.client_time < 0:
        raise invalid("hello.client_time", "seconds since 1970 are required")
    if not 1 <= len(message.release) <= 64 or not message.release.isprintable():
        raise invalid("hello.release", "1 to 64 printable characters are required")
    return Hello(message.token_id, message.client_nonce, message.client_time, message.release)
