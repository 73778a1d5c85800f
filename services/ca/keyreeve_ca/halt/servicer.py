"""IssuanceService: access rules, and messages to values and back."""

from dataclasses import dataclass

from keyreeve.ca.v1 import issuance_service_pb2 as pb
from keyreeve.identity import INNER_SERVICE_ROLES, OPERATOR_ROLES, Role
from keyreeve_ca.halt.service import HaltState, HaltSwitch
from keyreeve_ca.operators.dual_control import actor_of
from keyreeve_ca.store.ports import Store, Transaction
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, timestamp
from keyreeve_chassis.idempotency.mutation import Mutations

_SERVICE = "/keyreeve.ca.v1.IssuanceService/"

ACCESS: AccessRules = {
    _SERVICE + "HaltIssuance": AccessRule(
        frozenset({Role.ADMIN, Role.OPERATOR}),
        forwarded=True,
        freshness=Freshness.TOLERANT,  # stopping must not wait for a feed that is late
        records=("reason",),
    ),
    _SERVICE + "ResumeIssuance": AccessRule(frozenset({Role.ADMIN}), forwarded=True, records=("reason",)),
    _SERVICE + "GetIssuanceState": AccessRule(OPERATOR_ROLES | INNER_SERVICE_ROLES, freshness=Freshness.TOLERANT),
}


@dataclass(frozen=True)
class IssuanceServicer:
    """Serves IssuanceService."""

    switch: HaltSwitch
    store: Store
    mutations: Mutations[Transaction]

    async def HaltIssuance(self, request: pb.HaltIssuanceRequest, call: Call) -> pb.IssuanceState:
        return await self.mutations(
            call,
            request,
            lambda tx: self._message(self.switch.halt(tx, actor_of(tx, str(caller_of(call))), request.reason)),
        )

    async def ResumeIssuance(self, request: pb.ResumeIssuanceRequest, call: Call) -> pb.IssuanceState:
        return await self.mutations(
            call,
            request,
            lambda tx: self._message(self.switch.resume(tx, actor_of(tx, str(caller_of(call))), request.reason)),
        )

    async def GetIssuanceState(self, request: pb.GetIssuanceStateRequest, call: Call) -> pb.IssuanceState:
        return self._message(await self.store.read(lambda tx: tx.halt.state()))

    def _message(self, state: HaltState) -> pb.IssuanceState:
        return pb.IssuanceState(
            status=pb.ISSUANCE_STATUS_HALTED if state.halted else pb.ISSUANCE_STATUS_ISSUING,
            halt_time=timestamp(state.halted_at),
            halter=state.halted_by,
            halt_reason=state.halt_reason,
            approve_time=timestamp(state.approved_at if state.halted else None),
            approver=state.approved_by if state.halted else "",
            resume_time=timestamp(state.resumed_at),
            resumer=state.resumed_by,
            resume_reason=state.resume_reason,
            resume_needs_two=self.switch.resume_needs_two,
        )
