"""TrustService: access rules, and messages to values and back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from keyreeve.ca.v1 import trust_service_pb2 as pb
from keyreeve.caller_values import CallersUpdate, MemberRecord
from keyreeve.identity import SERVICE_ROLES, Role
from keyreeve.wire import AUTHORITY_STATES, MEMBER_STATES, OPERATOR_ROLES, to_member_record
from keyreeve_ca.arrays.service import set_members
from keyreeve_ca.messages import order_of, uid_of
from keyreeve_ca.store.ports import Transaction
from keyreeve_ca.trust.service import CallerFeed
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, chosen, id_of, timestamp
from keyreeve_chassis.idempotency.mutation import Mutations

ACCESS: AccessRules = {
    "/keyreeve.ca.v1.TrustService/WatchCallers": AccessRule(
        # A service whose own issuing CA is revoked has to hear of that, to refuse the others.
        SERVICE_ROLES,
        long_stream=True,
        linger=1.0,
        freshness=Freshness.EXEMPT,
        records=(),
    ),
    "/keyreeve.ca.v1.TrustService/SetMembers": AccessRule(
        frozenset({Role.MEMBERSHIP}),
        forwarded=True,
        batches=True,
        records=("array", "order.rotation", "order.step", "members.identity"),
    ),
}
_STATES = {number: state for state, number in MEMBER_STATES.items()}


@dataclass(frozen=True)
class TrustServicer:
    """Answers TrustService."""

    feed: CallerFeed | None
    """None in the coordinator, which serves no streams."""
    mutations: Mutations[Transaction]
    trust_domain: str

    async def WatchCallers(self, request: pb.WatchCallersRequest, call: Call) -> AsyncIterator[pb.CallersUpdate]:
        assert self.feed is not None, "streams are served by workers"
        async for update in self.feed.watch(request.restore_generation, request.after_seq):
            yield _message(update)

    async def SetMembers(self, request: pb.SetMembersRequest, call: Call) -> pb.SetMembersResponse:
        array, order = f"arrays/{id_of(request.array, 'arrays', 'array')}", order_of(request)
        records = [_record(one, f"members[{at}]") for at, one in enumerate(request.members)]

        def act(tx: Transaction) -> pb.SetMembersResponse:
            set_members(tx, self.trust_domain, array, order, records)
            return pb.SetMembersResponse()

        return await self.mutations(call, request, act)


def _record(message: pb.MemberRecord, field: str) -> MemberRecord:
    return MemberRecord(
        uid_of(message.member_uid, f"{field}.member_uid"),
        message.identity,
        f"arrays/{id_of(message.array, 'arrays', f'{field}.array')}",
        chosen(_STATES, message.state, f"{field}.state"),
        primary=message.primary,
        removed=message.removed,
    )


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
        members=[to_member_record(one) for one in update.members],
        closed_sessions=[
            pb.ClosedSession(session=session, end_time=timestamp(end)) for session, end in update.closed_sessions
        ],
        signature=update.signature,
        signer_der=update.signer_der,
    )
