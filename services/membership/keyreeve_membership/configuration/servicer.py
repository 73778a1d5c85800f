"""SettingService: access rules, and messages to values and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keyreeve.membership.v1 import setting_service_pb2 as pb
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, id_of, invalid
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_membership.configuration.service import Configuration
from keyreeve_membership.configuration.settings_list import Scope, kind_of
from keyreeve_membership.roll.access import require_agent_of_primary, require_array_of
from keyreeve_membership.roll.array_servicer import CHANGERS, READERS
from keyreeve_membership.roll.service import get_member
from keyreeve_membership.store.ports import Transaction

SERVICE = "/keyreeve.membership.v1.SettingService/"
ACCESS: AccessRules = through_gateways(
    {
        SERVICE + "GetSettings": AccessRule(READERS, freshness=Freshness.TOLERANT, records=("member",)),
        SERVICE + "UpdateSettings": AccessRule(CHANGERS, forwarded=True, records=("members", "whole_array")),
    },
    "GetSettings",
    "UpdateSettings",
)
_SCOPES = {Scope.ARRAY: pb.SETTING_SCOPE_ARRAY, Scope.SERVER: pb.SETTING_SCOPE_SERVER}
_MOST = 50
_MOST_SERVERS = 500


@dataclass(frozen=True)
class SettingServicer:
    """Serves SettingService."""

    configuration: Configuration
    store: Store[Transaction]
    mutations: Mutations[Transaction]
    refuse_altered: Callable[[], None]
    """Raises `TrustTableAltered` while another has written into the roll."""

    async def GetSettings(self, request: pb.GetSettingsRequest, call: Call) -> pb.Settings:
        member, caller, names = id_of(request.member, "members", "member"), caller_of(call), tuple(request.names)

        def read(tx: Transaction) -> pb.Settings:
            require_array_of(tx, caller, get_member(tx, member).array_id)
            return _message(member, self.configuration.settings_of(tx, member, names))

        return await self.store.read(read)

    async def UpdateSettings(self, request: pb.UpdateSettingsRequest, call: Call) -> pb.UpdateSettingsResponse:
        caller, members = caller_of(call), [id_of(name, "members", "members") for name in request.members]
        changed = {one.name: one.value for one in request.settings}
        if not 1 <= len(members) <= _MOST_SERVERS or (request.whole_array and len(members) > 1):
            raise invalid("members", f"1 to {_MOST_SERVERS} servers, or one of the whole array")
        if not 1 <= len(changed) <= _MOST or len(changed) != len(request.settings):
            raise invalid("settings", f"1 to {_MOST} different settings")
        if any(one.scope for one in request.settings):
            raise invalid("settings.scope", "output only")

        def update(tx: Transaction) -> pb.UpdateSettingsResponse:
            for name in members:
                require_agent_of_primary(tx, caller, get_member(tx, name).array_id)
            found = self.configuration.update(tx, members, changed, whole_array=request.whole_array)
            return pb.UpdateSettingsResponse(
                settings=[_message(one.name, self.configuration.settings_of(tx, one.name)) for one in found]
            )

        self.refuse_altered()
        return await self.mutations(call, request, update)


def _message(member: str, settings: Mapping[str, str]) -> pb.Settings:
    return pb.Settings(
        member=f"members/{member}",
        settings=[
            pb.Setting(name=name, value=value, scope=_SCOPES[kind_of(name).scope]) for name, value in settings.items()
        ],
    )
