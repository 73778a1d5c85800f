"""Objects and launch settings of an array."""

from collections.abc import AsyncGenerator, Collection
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from keyreeve import launch_wire
from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import launch_setting_service_pb2 as setting_pb
from keyreeve.credentials.v1 import object_service_pb2 as object_pb
from keyreeve.launch_values import (
    ApplicationKind,
    LaunchObject,
    LaunchSettings,
    LaunchSettingsView,
    ObjectKind,
    PasswordCacheUsage,
)
from keyreeve.request_ids import new_request_id
from keyreeve.wire_fields import resource_name, to_number

_OBJECTS = "/keyreeve.credentials.v1.ObjectService"
_SETTINGS = "/keyreeve.credentials.v1.LaunchSettingService"


class ObjectClient:
    """Application servers, applications and user profiles; reached as `Client.credentials.objects`.

    Arrays may be named in full (`arrays/sales`) or by their last part. Every method raises `keyreeve.errors` and takes a
    `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        array: str,
        name: str,
        kind: ObjectKind,
        *,
        domain: str = "",
        password_cache_usage: PasswordCacheUsage = PasswordCacheUsage.DEFAULT,
        application_kind: ApplicationKind | None = None,
        enhanced_network_security: bool | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> LaunchObject:
        """Create an object by its TFN name; `application_kind` is for applications, and required there."""
        given = _attributes(domain, password_cache_usage, application_kind, enhanced_network_security)
        made = object_pb.Object(
            parent=resource_name("arrays", array),
            object_name=name,
            kind=to_number(launch_wire.OBJECT_KINDS, kind, "kind"),
            **given,
        )
        request = object_pb.CreateObjectRequest(object=made, request_id=request_id or new_request_id())
        message = await self._caller.unary(f"{_OBJECTS}/CreateObject", request, object_pb.Object, timeout)
        return launch_wire.from_object(message)

    async def get(self, array: str, name: str, *, timeout: float | None = None) -> LaunchObject:
        """Look up an object."""
        request = object_pb.GetObjectRequest(parent=resource_name("arrays", array), object_name=name)
        message = await self._caller.unary(f"{_OBJECTS}/GetObject", request, object_pb.Object, timeout)
        return launch_wire.from_object(message)

    async def list(
        self, array: str, *, kind: ObjectKind | None = None, page_size: int = 150, timeout: float | None = None
    ) -> AsyncGenerator[LaunchObject, None]:
        """Iterate over objects in order of their names; `timeout` is for each page."""
        request = object_pb.ListObjectsRequest(parent=resource_name("arrays", array), page_size=page_size)
        if kind is not None:
            request.kind = to_number(launch_wire.OBJECT_KINDS, kind, "kind")
        while True:
            page = await self._caller.unary(f"{_OBJECTS}/ListObjects", request, object_pb.ListObjectsResponse, timeout)
            for message in page.objects:
                yield launch_wire.from_object(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update(
        self,
        array: str,
        name: str,
        *,
        domain: str | None = None,
        password_cache_usage: PasswordCacheUsage | None = None,
        application_kind: ApplicationKind | None = None,
        enhanced_network_security: bool | None = None,
        version: int = 0,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> LaunchObject:
        """Change the attributes that are given; with a `version`, only if it is the present one."""
        given = _attributes(domain, password_cache_usage, application_kind, enhanced_network_security)
        changed = object_pb.Object(parent=resource_name("arrays", array), object_name=name, version=version, **given)
        request = object_pb.UpdateObjectRequest(
            object=changed, update_mask=FieldMask(paths=sorted(given)), request_id=request_id or new_request_id()
        )
        message = await self._caller.unary(f"{_OBJECTS}/UpdateObject", request, object_pb.Object, timeout)
        return launch_wire.from_object(message)

    async def delete(
        self, array: str, name: str, *, request_id: str | None = None, timeout: float | None = None
    ) -> None:
        """Delete an object; entries for it remain."""
        request = object_pb.DeleteObjectRequest(
            parent=resource_name("arrays", array), object_name=name, request_id=request_id or new_request_id()
        )
        await self._caller.unary(f"{_OBJECTS}/DeleteObject", request, object_pb.DeleteObjectResponse, timeout)


class LaunchSettingClient:
    """Launch settings of arrays and servers; reached as `Client.credentials.launch_settings`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, array: str, server: str = "", *, timeout: float | None = None) -> LaunchSettingsView:
        """Read the settings of an array, or of one of its servers by its peer DNS name."""
        request = setting_pb.GetLaunchSettingsRequest(parent=resource_name("arrays", array), server=server)
        method = f"{_SETTINGS}/GetLaunchSettings"
        return launch_wire.from_view(await self._caller.unary(method, request, setting_pb.LaunchSettingsView, timeout))

    async def update(
        self,
        array: str,
        settings: LaunchSettings,
        server: str = "",
        *,
        remove: Collection[str] = (),
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> LaunchSettingsView:
        """Set the settings that are not None, and remove those that are named, so that the layer below applies."""
        given = [name for name in launch_wire.SETTINGS if getattr(settings, name) is not None]
        request = setting_pb.UpdateLaunchSettingsRequest(
            parent=resource_name("arrays", array),
            server=server,
            settings=launch_wire.to_settings(settings),
            update_mask=FieldMask(paths=sorted({*given, *remove})),
            request_id=request_id or new_request_id(),
        )
        method = f"{_SETTINGS}/UpdateLaunchSettings"
        return launch_wire.from_view(await self._caller.unary(method, request, setting_pb.LaunchSettingsView, timeout))


def _attributes(
    domain: str | None,
    usage: PasswordCacheUsage | None,
    kind: ApplicationKind | None,
    enhanced_network_security: bool | None,
) -> dict[str, Any]:
    given: dict[str, Any] = {
        "domain": domain,
        "password_cache_usage": None if usage is None else to_number(launch_wire.USAGES, usage, "usage"),
        "application_kind": (
            None if kind is None else to_number(launch_wire.APPLICATION_KINDS, kind, "application_kind")
        ),
        "enhanced_network_security": enhanced_network_security,
    }
    return {name: value for name, value in given.items() if value is not None}
