"""Launch settings and objects in memory."""

from dataclasses import dataclass, field

from keyreeve import errors
from keyreeve.credentials.v1 import launch_setting_service_pb2 as launch_pb
from keyreeve.credentials.v1 import object_service_pb2 as object_pb

DEFAULTS = launch_pb.LaunchSettings(
    password_cache_usage=True,
    expired_password=launch_pb.EXPIRED_PASSWORD_ACTION_DIALOG,
    allow_smart_card=True,
    show_dialog=launch_pb.DIALOG_DISPLAY_USER,
    save_password_checked=True,
    save_password_enabled=True,
    always_smart_card_checked=False,
    always_smart_card_enabled=True,
    save_login_password=True,
    dialog_delay_seconds=2,
    details_shown=False,
    details_shown_on_error=True,
    details_enabled=True,
    new_key_on_restart=False,
)


@dataclass
class LegacySettingsAndObjects:
    """Handlers of LaunchSettingService and ObjectService."""

    launch: dict[tuple[str, str], launch_pb.LaunchSettings] = field(default_factory=dict)
    """By array and server; without a server, the array's own."""
    objects: dict[tuple[str, str], object_pb.Object] = field(default_factory=dict)

    def GetLaunchSettings(self, request: launch_pb.GetLaunchSettingsRequest) -> launch_pb.LaunchSettingsView:  # noqa: N802
        own = self.launch.get((request.parent, request.server), launch_pb.LaunchSettings())
        view = launch_pb.LaunchSettingsView(parent=request.parent, server=request.server, own=own, effective=DEFAULTS)
        view.effective.MergeFrom(self.launch.get((request.parent, ""), launch_pb.LaunchSettings()))
        view.effective.MergeFrom(own)
        return view

    def UpdateLaunchSettings(  # noqa: N802
        self, request: launch_pb.UpdateLaunchSettingsRequest
    ) -> launch_pb.LaunchSettingsView:
        self.launch.setdefault((request.parent, request.server), launch_pb.LaunchSettings()).MergeFrom(request.settings)
        return self.GetLaunchSettings(launch_pb.GetLaunchSettingsRequest(parent=request.parent, server=request.server))

    def CreateObject(self, request: object_pb.CreateObjectRequest) -> object_pb.Object:  # noqa: N802
        made = object_pb.Object()
        made.CopyFrom(request.object)
        made.object_name = full(made.object_name)
        if made.application_kind == object_pb.APPLICATION_KIND_WINDOWS and not made.HasField(
            "enhanced_network_security"
        ):
            made.enhanced_network_security = True
        key = (made.parent, made.object_name.casefold())
        if key in self.objects:
            raise errors.ObjectExists(
                f"the array {made.parent.removeprefix('arrays/')} has an object {made.object_name}"
            )
        self.objects[key] = made
        return made

    def GetObject(self, request: object_pb.GetObjectRequest) -> object_pb.Object:  # noqa: N802
        return self._object(request.parent, request.object_name)

    def UpdateObject(self, request: object_pb.UpdateObjectRequest) -> object_pb.Object:  # noqa: N802
        found = self._object(request.object.parent, request.object.object_name)
        for path in request.update_mask.paths:
            setattr(found, path, getattr(request.object, path))
        return found

    def DeleteObject(self, request: object_pb.DeleteObjectRequest) -> object_pb.DeleteObjectResponse:  # noqa: N802
        found = self._object(request.parent, request.object_name)
        del self.objects[found.parent, found.object_name.casefold()]
        return object_pb.DeleteObjectResponse()

    def _object(self, parent: str, name: str) -> object_pb.Object:
        key = (parent, full(name).casefold())
        if key not in self.objects:
            raise errors.ObjectNotFound(f"the array {parent.removeprefix('arrays/')} has no object {full(name)}")
        return self.objects[key]


def full(name: str) -> str:
    """A TFN name with its beginning."""
    return name if name.startswith("...") else f".../_ens/{name}"
