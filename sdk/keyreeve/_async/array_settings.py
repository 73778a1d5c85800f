"""Settings of arrays and servers."""

from collections.abc import Mapping, Sequence

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import setting_service_pb2 as pb
from keyreeve.membership_values import Setting
from keyreeve.request_ids import new_request_id

_SERVICE = "/keyreeve.membership.v1.SettingService"


class SettingClient:
    """The settings of arrays and servers; reached as `Client.membership.settings`.

    Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, member: str, *, names: Sequence[str] = (), timeout: float | None = None) -> tuple[Setting, ...]:
        """Return the settings of a server and of its array, all or the named ones."""
        request = pb.GetSettingsRequest(member=wire.member_name(member), names=names)
        return wire.from_settings(await self._caller.unary(f"{_SERVICE}/GetSettings", request, pb.Settings, timeout))

    async def update(
        self,
        members: Sequence[str],
        settings: Mapping[str, str],
        *,
        whole_array: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, tuple[Setting, ...]]:
        """Change settings, and return those of the named servers, by `members/{member}`.

        Array-wide settings change for the arrays of the named servers; server-specific ones for the named servers, or with
        `whole_array` for all servers of the array of the one that is named.
        """
        request = pb.UpdateSettingsRequest(
            members=[wire.member_name(one) for one in members],
            whole_array=whole_array,
            settings=[pb.Setting(name=name, value=value) for name, value in settings.items()],
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/UpdateSettings"
        response = await self._caller.unary(method, request, pb.UpdateSettingsResponse, timeout)
        return {one.member: wire.from_settings(one) for one in response.settings}
