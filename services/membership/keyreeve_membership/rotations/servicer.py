"""RotationService: access rules, and messages to values and back."""

from dataclasses import dataclass

from keyreeve.identity import Role
from keyreeve.membership.v1 import rotation_service_pb2 as pb
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, id_of
from keyreeve_membership.roll.access import require_agent_of
from keyreeve_membership.roll.names import check_boot_id
from keyreeve_membership.roll.service import Roll
from keyreeve_membership.store.ports import Transaction

SERVICE = "/keyreeve.membership.v1.RotationService/"

ACCESS: AccessRules = {
    SERVICE + "AcknowledgeEpoch": AccessRule(
        frozenset({Role.MEMBER}), freshness=Freshness.TOLERANT, records=("name", "array", "epoch")
    ),
}


@dataclass(frozen=True)
class RotationServicer:
    """Serves RotationService."""

    roll: Roll
    store: Store[Transaction]

    async def AcknowledgeEpoch(self, request: pb.AcknowledgeEpochRequest, call: Call) -> pb.AcknowledgeEpochResponse:
        name, array_id = id_of(request.name, "members"), id_of(request.array, "arrays", "array")
        require_agent_of(caller_of(call), name)
        boot_id = check_boot_id(request.boot_id, "boot_id")
        newest = await self.store.write(
            lambda tx: self.roll.acknowledge(
                tx, name, array_id, boot_id=boot_id, epoch=request.epoch, digest=request.digest
            )
        )
        return pb.AcknowledgeEpochResponse(epoch=newest)
