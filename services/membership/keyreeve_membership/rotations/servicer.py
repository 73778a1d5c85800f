"""RotationService: access rules, and messages to values and back."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from keyreeve.errors import AccessDenied
from keyreeve.identity import Role
from keyreeve.membership.v1 import rotation_service_pb2 as pb
from keyreeve_chassis.changes.shared_reads import SharedReads
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, chosen, duration_of, id_of, invalid
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_membership.roll.access import require_agent_of, require_array_of
from keyreeve_membership.roll.array_servicer import READ, READERS
from keyreeve_membership.roll.names import check_boot_id
from keyreeve_membership.roll.service import Roll
from keyreeve_membership.rotations.messages import KEY_TYPES, KINDS, rotation_message
from keyreeve_membership.rotations.ports import RotationKind
from keyreeve_membership.rotations.service import NewRotation, Rotations, get_rotation
from keyreeve_membership.store.ports import Transaction

SERVICE = "/keyreeve.membership.v1.RotationService/"

_CHANGERS = frozenset({Role.ADMIN, Role.OPERATOR})
_WATCH_SECONDS = 5.0
_DEFAULT_PHASE_SECONDS = 3_600

ACCESS: AccessRules = {
    SERVICE + "StartRotation": AccessRule(_CHANGERS, forwarded=True, records=("array", "kind", "key_type")),
    SERVICE + "GetRotation": READ,
    SERVICE + "ListRotations": READ,
    SERVICE + "WatchRotation": AccessRule(READERS, long_stream=True, freshness=Freshness.TOLERANT),
    SERVICE + "RollBackRotation": AccessRule(_CHANGERS, forwarded=True),
    SERVICE + "WaiveRotationCheck": AccessRule(
        frozenset({Role.ADMIN}), forwarded=True, records=("name", "check", "member")
    ),
    SERVICE + "AcknowledgeEpoch": AccessRule(
        frozenset({Role.MEMBER}), freshness=Freshness.TOLERANT, records=("name", "array", "epoch")
    ),
}


@dataclass(frozen=True)
class RotationServicer:
    """Serves RotationService."""

    roll: Roll
    rotations: Rotations
    store: Store[Transaction]
    mutations: Mutations[Transaction]
    pages: Pages
    streams: SharedReads[Transaction]
    """What the streams follow rotations with."""
    refuse_altered: Callable[[], None]
    """Raises `TrustTableAltered` while another has written into the roll."""

    async def StartRotation(self, request: pb.StartRotationRequest, call: Call) -> pb.Rotation:
        caller, array_id = caller_of(call), id_of(request.array, "arrays", "array")
        kind = chosen(KINDS, request.kind, "kind")
        if kind is RotationKind.EMERGENCY and caller.role is not Role.ADMIN:
            raise AccessDenied(f"{caller} may not start emergencies; admins may", metadata={"allowed": "admin"})
        if kind is RotationKind.ALGORITHM_CHANGE and not request.key_type:
            raise invalid("key_type", "required for ALGORITHM_CHANGE")
        if request.HasField("phase_time") and kind is not RotationKind.EMERGENCY:
            raise invalid("phase_time", "for EMERGENCY alone")
        key_type = chosen(KEY_TYPES, request.key_type or pb.ROTATION_KEY_TYPE_P256, "key_type")
        seconds = _DEFAULT_PHASE_SECONDS if kind is RotationKind.EMERGENCY else 0
        if request.HasField("phase_time"):
            seconds = int(duration_of(request.phase_time, "phase_time").total_seconds())
        asked = NewRotation(kind, key_type, seconds)
        self.refuse_altered()
        return await self.mutations(
            call,
            request,
            lambda tx: rotation_message(tx, self.rotations.start(tx, array_id, asked, str(caller))),
        )

    async def GetRotation(self, request: pb.GetRotationRequest, call: Call) -> pb.Rotation:
        caller, rotation_id = caller_of(call), id_of(request.name, "rotations")

        def read(tx: Transaction) -> pb.Rotation:
            rotation = get_rotation(tx, rotation_id)
            require_array_of(tx, caller, rotation.array_id)
            return rotation_message(tx, rotation)

        return await self.store.read(read)

    async def ListRotations(self, request: pb.ListRotationsRequest, call: Call) -> pb.ListRotationsResponse:
        page, caller = self.pages.open(call, request), caller_of(call)
        array_id = id_of(request.array, "arrays", "array") if request.array else ""

        def read(tx: Transaction) -> tuple[list[pb.Rotation], str | None]:
            require_array_of(tx, caller, array_id)
            rows = tx.rotations.page(before=page.after, limit=page.size + 1, array_id=array_id)
            last = rows[page.size - 1].rotation_id if len(rows) > page.size else None
            return [rotation_message(tx, row, members=False) for row in rows[: page.size]], last

        found, last = await self.store.read(read)
        return pb.ListRotationsResponse(rotations=found, next_page_token=page.next_token(last))

    async def WatchRotation(self, request: pb.WatchRotationRequest, call: Call) -> AsyncIterator[pb.Rotation]:
        rotation_id, sent, wait = id_of(request.name, "rotations"), None, self.streams.follower()
        await self.GetRotation(pb.GetRotationRequest(name=request.name), call)
        while True:
            message = await self.streams.read(
                rotation_id, lambda tx: rotation_message(tx, get_rotation(tx, rotation_id))
            )
            if message != sent:
                sent = message
                yield message
            if message.HasField("end_time"):
                return
            await wait(_WATCH_SECONDS)

    async def RollBackRotation(self, request: pb.RollBackRotationRequest, call: Call) -> pb.Rotation:
        rotation_id, actor = id_of(request.name, "rotations"), str(caller_of(call))
        self.refuse_altered()
        return await self.mutations(
            call, request, lambda tx: rotation_message(tx, self.rotations.roll_back(tx, rotation_id, actor))
        )

    async def WaiveRotationCheck(self, request: pb.WaiveRotationCheckRequest, call: Call) -> pb.Rotation:
        rotation_id = id_of(request.name, "rotations")
        of_member = chosen(
            {pb.WAIVED_CHECK_STATEMENT: True, pb.WAIVED_CHECK_OLD_CERTIFICATES: False}, request.check, "check"
        )
        member = id_of(request.member, "members", "member") if of_member else None
        self.refuse_altered()
        return await self.mutations(
            call, request, lambda tx: rotation_message(tx, self.rotations.waive(tx, rotation_id, member))
        )

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
