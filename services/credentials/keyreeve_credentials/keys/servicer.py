"""KeyService: access rules, and messages to values and back."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from keyreeve.credentials.v1 import key_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, caller_of, invalid, number_of, timestamp
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_chassis.operations.servicer import operation_message
from keyreeve_credentials.keys.ports import Kek, KekState, SealState
from keyreeve_credentials.keys.seal_switch import SealSwitch
from keyreeve_credentials.keys.service import APPROVAL_SECONDS, Actor, Keys, running_rotation

_SERVICE = "/keyreeve.credentials.v1.KeyService/"
_ARRAY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_PARENT = re.compile(rf"arrays/({_ARRAY})\Z")
_NAME = re.compile(rf"arrays/({_ARRAY})/keys/([0-9a-f]{{32}})\Z")

ACCESS: AccessRules = {
    _SERVICE + "GetKeyState": AccessRule(OPERATOR_ROLES, freshness=Freshness.TOLERANT),
    _SERVICE + "RotateKey": AccessRule(frozenset({Role.ADMIN}), forwarded=True),
    _SERVICE + "DestroyKey": AccessRule(frozenset({Role.ADMIN}), forwarded=True, records=("name", "shred")),
    _SERVICE + "Seal": AccessRule(frozenset({Role.ADMIN, Role.OPERATOR}), forwarded=True, records=("reason",)),
    _SERVICE + "Unseal": AccessRule(frozenset({Role.ADMIN}), forwarded=True, records=("reason",)),
}
_STAGES: Final = {
    pb.KEY_STAGE_WRITER: KekState.WRITER,
    pb.KEY_STAGE_DRAINING: KekState.DRAINING,
    pb.KEY_STAGE_DESTROYING: KekState.DESTROYING,
    pb.KEY_STAGE_DESTROYED: KekState.DESTROYED,
}


@dataclass(frozen=True)
class KeyServicer:
    """Serves KeyService."""

    keys: Keys
    switch: SealSwitch
    mutations: Mutations[Any]

    async def GetKeyState(self, request: pb.GetKeyStateRequest, call: Call) -> pb.KeyState:
        array_id = _array(request.parent)
        uses, seal, rotation = await self.keys.store.read(lambda tx: self.keys.state(tx, array_id))
        return pb.KeyState(
            keys=[self._key(use.kek, use.values) for use in uses],
            seal=_seal(seal),
            rotation="" if rotation is None else f"operations/{rotation.operation_id}",
        )

    async def RotateKey(self, request: pb.RotateKeyRequest, call: Call) -> operation_pb.Operation:
        array_id, by = _array(request.parent), str(caller_of(call))
        self.switch.check()

        async def prepare(
            commit: Callable[[Callable[[Any], operation_pb.Operation]], Awaitable[operation_pb.Operation]],
        ) -> operation_pb.Operation:
            running = await self.keys.store.read(lambda tx: running_rotation(tx, array_id))
            if running is not None:
                return await commit(lambda _: operation_message(running))
            kek_id = self.keys.new_id()
            await asyncio.to_thread(self.keys.root.create, array_id, kek_id)
            operation = await commit(lambda tx: operation_message(self.keys.begin_rotation(tx, array_id, kek_id, by)))
            await self.keys.drop_unused(kek_id)
            return operation

        return await self.mutations.prepared(call, request, prepare)

    async def DestroyKey(self, request: pb.DestroyKeyRequest, call: Call) -> pb.Key:
        found = _NAME.match(request.name)
        if found is None:
            raise invalid("name", "a name of the form arrays/.../keys/... is required")
        array_id, kek_id = found[1], found[2]
        caller = caller_of(call)
        actor = Actor(str(caller), caller.person_uid)
        at_once = request.shred == pb.SHRED_NOW
        answer = await self.mutations(
            call,
            request,
            lambda tx: self._key(self.keys.ask_destruction(tx, array_id, kek_id, actor, at_once=at_once), 0),
        )
        if answer.stage == pb.KEY_STAGE_DESTROYING:
            return self._key(await self.keys.finish_destruction(kek_id), 0)
        return answer

    async def Seal(self, request: pb.SealRequest, call: Call) -> pb.SealState:
        return await self._switch(call, request, sealed=True)

    async def Unseal(self, request: pb.UnsealRequest, call: Call) -> pb.SealState:
        return await self._switch(call, request, sealed=False)

    async def _switch(self, call: Call, request: pb.SealRequest | pb.UnsealRequest, *, sealed: bool) -> pb.SealState:
        by = str(caller_of(call))
        answer = await self.mutations(
            call, request, lambda tx: _seal(self.keys.seal(tx, by, request.reason, sealed=sealed))
        )
        await self.switch.refresh()
        return answer

    def _key(self, kek: Kek, values: int) -> pb.Key:
        asked = kek.asked_at is not None and self.keys.now() - kek.asked_at <= APPROVAL_SECONDS
        return pb.Key(
            name=kek.name,
            number=kek.number,
            stage=number_of(_STAGES, kek.state),
            wraps=kek.wraps,
            values=values,
            create_time=timestamp(kek.created_at),
            drain_time=timestamp(kek.drained_at),
            destroy_time=timestamp(kek.destroy_at),
            destruction_requester=kek.asked_by if asked and kek.state is KekState.DRAINING else "",
        )


def _array(name: str) -> str:
    found = _PARENT.match(name)
    if found is None:
        raise invalid("parent", "a name of the form arrays/... is required")
    return found[1]


def _seal(state: SealState) -> pb.SealState:
    return pb.SealState(
        sealed=state.sealed,
        change_time=timestamp(state.changed_at) if state.changed_at else None,
        changer=state.changed_by,
        reason=state.reason,
    )
