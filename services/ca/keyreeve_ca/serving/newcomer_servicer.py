"""`Enrol`, on the newcomer's listener: the only thing that somebody without a certificate can call there."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from prometheus_client import Counter

from keyreeve import errors
from keyreeve.ca.v1 import enrolment_service_pb2 as pb
from keyreeve_ca.enrolment import Enrolment, Hello
from keyreeve_ca.serving.messages import invalid
from keyreeve_ca.serving.token_servicer import SERVICE
from keyreeve_chassis.access import Freshness, Row, Rows
from keyreeve_chassis.call import Call
from keyreeve_chassis.limits import PerAddress

ACCESS: Rows = {SERVICE + "Enrol": Row(anyone=True, freshness=Freshness.EXEMPT)}
ELSEWHERE = frozenset({"CreateEnrolmentToken", "RevokeEnrolmentToken", "ListEnrolmentTokens"})
ANSWER_SECONDS = 0.025
"""A challenge, or the refusal of a proof, leaves so long after what it answers: what is known here does not show."""

_ENROLMENTS = Counter(
    "keyreeve_ca_enrolments_total", "Ends of enrolments, by reason; OK for a certificate.", ["reason"]
)


@dataclass(frozen=True)
class NewcomerServicer:
    """Answers `Enrol`."""

    enrolment: Enrolment
    limits: PerAddress
    endpoints: Callable[[], Mapping[str, str]]
    clock: Callable[[], float] = time.monotonic

    async def Enrol(self, requests: AsyncIterator[pb.EnrolRequest], call: Call) -> AsyncIterator[pb.EnrolResponse]:
        with self.limits.admit(call.peer):
            try:
                async for response in self._enrol(requests, call):
                    yield response
            except errors.KeyreeveError as refused:
                _ENROLMENTS.labels(refused.reason).inc()
                raise

    async def _enrol(self, requests: AsyncIterator[pb.EnrolRequest], call: Call) -> AsyncIterator[pb.EnrolResponse]:
        hello = _hello((await _next(requests, "hello")).hello)
        arrived = self.clock()
        session = await self.enrolment.challenge(hello)
        transcript = session.transcript
        await self._until(arrived + ANSWER_SECONDS)
        yield pb.EnrolResponse(
            challenge=pb.EnrolChallenge(
                server_nonce=transcript.server_nonce,
                server_time=transcript.server_time,
                identity=transcript.name,
                trust_root=transcript.trust_root,
                server_mac=session.server_mac,
            )
        )
        proof = (await _next(requests, "proof")).proof
        arrived = self.clock()
        try:
            result = await self.enrolment.result(session, proof.csr, proof.client_mac, call.record)
        except errors.TokenRefused:
            await self._until(arrived + ANSWER_SECONDS)
            raise
        _ENROLMENTS.labels("OK").inc()
        yield pb.EnrolResponse(
            result=pb.EnrolResult(
                chain_der=result.chain_der,
                trust_root=result.trust_root,
                result_mac=result.result_mac,
                endpoints=self.endpoints(),
                roots_der=result.roots_der,
                roots_mac=result.roots_mac,
            )
        )

    async def _until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self.clock()))


async def _next(requests: AsyncIterator[pb.EnrolRequest], step: str) -> pb.EnrolRequest:
    request = await anext(requests, None)
    if request is None or request.WhichOneof("step") != step:
        raise invalid("step", f"{step} is expected here")
    return request


def _hello(message: pb.EnrolHello) -> Hello:
    if len(message.token_id) != 16:
        raise invalid("hello.token_id", "16 octets are required")
    if len(message.client_nonce) != 32:
        raise invalid("hello.client_nonce", "32 octets are required")
    if message.client_time < 0:
        raise invalid("hello.client_time", "seconds since 1970 are required")
    if not 1 <= len(message.release) <= 64 or not message.release.isprintable():
        raise invalid("hello.release", "1 to 64 printable characters are required")
    return Hello(message.token_id, message.client_nonce, message.client_time, message.release)
