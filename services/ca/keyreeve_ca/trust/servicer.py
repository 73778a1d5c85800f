"""TrustService: who may call what, and the turning of messages into calls of the use case."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from keyreeve.ca.v1 import trust_service_pb2 as pb
from keyreeve.caller_values import CallersUpdate
from keyreeve.identity import SERVICE_ROLES
from keyreeve.wire import AUTHORITY_STATES, OPERATOR_ROLES
from keyreeve_ca.trust.service import CallerFeed
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, timestamp

ACCESS: AccessRules = {
    "/keyreeve.ca.v1.TrustService/WatchCallers": AccessRule(
        # A service whose own issuing CA is revoked has to hear of that, to refuse the others.
        SERVICE_ROLES,
        long_stream=True,
        linger=1.0,
        freshness=Freshness.EXEMPT,
        records=(),
    ),
}


@dataclass(frozen=True)
class TrustServicer:
    """Answers TrustService."""

    feed: CallerFeed | None
    """None in the coordinator, which serves no streams."""

    async def WatchCallers(self, request: pb.WatchCallersRequest, call: Call) -> AsyncIterator[pb.CallersUpdate]:
        assert self.feed is not None, "streams are served by workers"
        async for update in self.feed.watch(request.restore_generation, request.after_seq):
            yield _message(update)


def _message(update: CallersUpdate) -> pb.CallersUpdate:
    return pb.CallersUpdate(
        restore_generation=update.restore_generation,
        after_seq=update.after_seq,
        seq=update.seq,
        head_seq=update.head_seq,
        time=timestamp(update.time),
        authorities=[
            pb.IssuingAuthority(name=one.name, state=AUTHORITY_STATES[one.state], certificate_der=one.certificate_der)
            for one in update.authorities
        ],
        operators=[
            pb.OperatorRecord(
                name=one.name,
                person_uid=one.person_uid,
                role=OPERATOR_ROLES[one.role],
                since_time=timestamp(one.since),
                removed=one.removed,
            )
            for one in update.operators
        ],
        revoked=[
            pb.RevokedCertificate(serial=serial, not_after_time=timestamp(not_after))
            for serial, not_after in update.revoked
        ],
        signature=update.signature,
        signer_der=update.signer_der,
    )
