"""Rotations: changes of the CA of an array."""

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import rotation_service_pb2 as pb

_SERVICE = "/keyreeve.membership.v1.RotationService"


class RotationClient:
    """The rotations; reached as `Client.membership.rotations`.

    Every method raises `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

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
