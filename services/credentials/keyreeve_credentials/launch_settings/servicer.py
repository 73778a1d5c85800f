"""LaunchSettingService: access rules, and messages to values and back."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from keyreeve.credentials.v1 import launch_setting_service_pb2 as pb
from keyreeve.identity import INNER_SERVICE_ROLES, OPERATOR_ROLES, Role
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, invalid, number_of
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_credentials.entries.servicer import array_of
from keyreeve_credentials.launch_settings.layers import (
    SETTING_NAMES,
    DialogDisplay,
    ExpiredPasswordAction,
    LaunchSettings,
    Value,
    origin_of,
)
from keyreeve_credentials.launch_settings.service import SettingsView, parse_server, read_settings, set_settings
from keyreeve_credentials.policies.checking import AccessCheck
from keyreeve_credentials.policies.rules import MANAGE

_SERVICE = "/keyreeve.credentials.v1.LaunchSettingService/"
_WHICH = ("parent", "server")

ACCESS: AccessRules = through_gateways(
    {
        _SERVICE + "GetLaunchSettings": AccessRule(
            OPERATOR_ROLES | INNER_SERVICE_ROLES | {Role.MEMBER}, freshness=Freshness.TOLERANT, records=_WHICH
        ),
        _SERVICE + "UpdateLaunchSettings": AccessRule(
            frozenset({Role.ADMIN, Role.OPERATOR, Role.MEMBER, Role.WORKLOAD}),
            forwarded=True,
            records=(*_WHICH, "update_mask.paths"),
        ),
    },
    "GetLaunchSettings",
    "UpdateLaunchSettings",
)
_DISPLAYS: Final = {
    pb.DIALOG_DISPLAY_USER: DialogDisplay.USER,
    pb.DIALOG_DISPLAY_SYSTEM: DialogDisplay.SYSTEM,
    pb.DIALOG_DISPLAY_NONE: DialogDisplay.NONE,
}
_ACTIONS: Final = {
    pb.EXPIRED_PASSWORD_ACTION_DIALOG: ExpiredPasswordAction.DIALOG,
    pb.EXPIRED_PASSWORD_ACTION_MANUAL: ExpiredPasswordAction.MANUAL,
    pb.EXPIRED_PASSWORD_ACTION_NONE: ExpiredPasswordAction.NONE,
}


def settings_message(values: dict[str, Any]) -> pb.LaunchSettings:
    """Settings as a message."""
    numbers: dict[str, Any] = {}
    for name, value in values.items():
        match value:
            case DialogDisplay():
                numbers[name] = number_of(_DISPLAYS, value)
            case ExpiredPasswordAction():
                numbers[name] = number_of(_ACTIONS, value)
            case _:
                numbers[name] = value
    return pb.LaunchSettings(**numbers)


def _view_message(array_id: str, server: str, view: SettingsView) -> pb.LaunchSettingsView:
    origins = {name: origin_of(name, view.array, view.server) for name in SETTING_NAMES}
    return pb.LaunchSettingsView(
        parent=f"arrays/{array_id}",
        server=server,
        own=settings_message((view.server if server else view.array).given),
        effective=settings_message(asdict(view.effective)),
        from_array=[name for name, origin in origins.items() if origin == "array"],
        from_server=[name for name, origin in origins.items() if origin == "server"],
    )


def _changes(request: pb.UpdateLaunchSettingsRequest) -> dict[str, Value | None]:
    paths = list(request.update_mask.paths)
    if not paths:
        raise invalid("update_mask", "names of settings are required")
    changes: dict[str, Value | None] = {}
    for name in paths:
        if name not in SETTING_NAMES:
            raise invalid("update_mask", f"{name!r} is not a launch setting")
        value = getattr(request.settings, name)
        if name == "show_dialog":
            changes[name] = _DISPLAYS.get(value)
        elif name == "expired_password":
            changes[name] = _ACTIONS.get(value)
        else:
            changes[name] = value if request.settings.HasField(name) else None  # type: ignore[arg-type]
    return changes


@dataclass(frozen=True)
class LaunchSettingServicer:
    """Serves LaunchSettingService."""

    access: AccessCheck
    store: Store[Any]
    mutations: Mutations[Any]
    defaults: LaunchSettings
    restarts_known: bool
    """Whether anything reports restarts of members."""

    async def GetLaunchSettings(self, request: pb.GetLaunchSettingsRequest, call: Call) -> pb.LaunchSettingsView:
        array_id, server = array_of(request.parent), parse_server(request.server)
        view = await self.store.read(lambda tx: read_settings(tx, array_id, server, self.defaults), one_statement=True)
        return _view_message(array_id, server, view)

    async def UpdateLaunchSettings(self, request: pb.UpdateLaunchSettingsRequest, call: Call) -> pb.LaunchSettingsView:
        array_id, server, changes = array_of(request.parent), parse_server(request.server), _changes(request)
        self.access.check(caller_of(call), array_id, None, None, MANAGE)

        def change(tx: Any) -> pb.LaunchSettingsView:  # noqa: ANN401 - the service's transaction
            view = set_settings(tx, array_id, server, changes, self.defaults, restarts_known=self.restarts_known)
            return _view_message(array_id, server, view)

        return await self.mutations(
            call,
            request,
            change,
            lambda view: [("set", name) for name in sorted(changes) if name in (*view.from_array, *view.from_server)],
        )
