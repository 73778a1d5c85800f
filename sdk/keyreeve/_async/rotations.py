"""Rotations: changes of the CA of an array."""

from collections.abc import AsyncGenerator
from datetime import timedelta

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import rotation_service_pb2 as pb
from keyreeve.membership_values import Rotation, RotationKind
from keyreeve.request_ids import new_request_id
from keyreeve.values import KeyType
from keyreeve.wire import to_duration, to_number

_SERVICE = "/keyreeve.membership.v1.RotationService"


class RotationClient:
    """The rotations; reached as `Client.membership.rotations`.

    Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def start(
        self,
        array: str,
        kind: RotationKind,
        *,
        key_type: KeyType | None = None,
        phase_time: timedelta | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Rotation:
        """Start a rotation; promotions are started with `Client.membership.arrays.promote`.

        `key_type` is required for a change of algorithm; `phase_time` is for emergencies, an hour unless given.
        """
        request = pb.StartRotationRequest(
            array=wire.array_name(array),
            kind=to_number(wire.ROTATION_KINDS, kind, "kind"),
            phase_time=to_duration(phase_time),
            request_id=request_id or new_request_id(),
        )
        if key_type is not None:
            request.key_type = to_number(wire.ROTATION_KEY_TYPES, key_type, "key_type")
        return wire.from_rotation(await self._caller.unary(f"{_SERVICE}/StartRotation", request, pb.Rotation, timeout))

    async def get(self, name: str, *, timeout: float | None = None) -> Rotation:
        """Look up a rotation."""
        request = pb.GetRotationRequest(name=wire.rotation_name(name))
        return wire.from_rotation(await self._caller.unary(f"{_SERVICE}/GetRotation", request, pb.Rotation, timeout))

    async def list(
        self, *, array: str = "", page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[Rotation, None]:
        """Iterate over the rotations, of one array or all, the newest first; `timeout` is for each page."""
        request = pb.ListRotationsRequest(page_size=page_size, array=wire.array_name(array) if array else "")
        while True:
            method = f"{_SERVICE}/ListRotations"
            page = await self._caller.unary(method, request, pb.ListRotationsResponse, timeout)
            for message in page.rotations:
                yield wire.from_rotation(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def watch(self, name: str) -> AsyncGenerator[Rotation, None]:
        """Iterate over the states of a rotation until it has ended."""
        request = pb.WatchRotationRequest(name=wire.rotation_name(name))
        async for message in self._caller.follow(f"{_SERVICE}/WatchRotation", request, pb.Rotation):
            rotation = wire.from_rotation(message)
            yield rotation
            if rotation.ended_at is not None:
                return

    async def roll_back(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Rotation:
        """Roll a rotation back to the CA before it."""
        request = pb.RollBackRotationRequest(name=wire.rotation_name(name), request_id=request_id or new_request_id())
        method = f"{_SERVICE}/RollBackRotation"
        return wire.from_rotation(await self._caller.unary(method, request, pb.Rotation, timeout))

    async def waive(
        self, name: str, *, member: str = "", request_id: str | None = None, timeout: float | None = None
    ) -> Rotation:
        """Take the statement of a member alone, or without `member`, accept unexpired certificates of the old CA."""
        request = pb.WaiveRotationCheckRequest(
            name=wire.rotation_name(name),
            check=pb.WAIVED_CHECK_STATEMENT if member else pb.WAIVED_CHECK_OLD_CERTIFICATES,
            member=wire.member_name(member) if member else "",
            request_id=request_id or new_request_id(),
        )
        method = f"{_SERVICE}/WaiveRotationCheck"
        return wire.from_rotation(await self._caller.unary(method, request, pb.Rotation, timeout))

    async def acknowledge(
        self, member: str, array: str, *, boot_id: str, epoch: int, digest: bytes, timeout: float | None = None
    ) -> int:
        """Acknowledge an epoch that a server has loaded; its agent does that.

        Returns the newest epoch of the array.
        """
        request = pb.AcknowledgeEpochRequest(
            name=wire.member_name(member), array=wire.array_name(array), boot_id=boot_id, epoch=epoch, digest=digest
        )
        method = f"{_SERVICE}/AcknowledgeEpoch"
        return (await self._caller.unary(method, request, pb.AcknowledgeEpochResponse, timeout)).epoch
