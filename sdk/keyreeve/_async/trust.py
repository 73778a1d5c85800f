"""What services must know of callers beside certificates: the caller feed, and members' records in it."""

from collections.abc import AsyncGenerator, Sequence

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import trust_service_pb2 as pb
from keyreeve.caller_values import CallersUpdate, MemberRecord
from keyreeve.request_ids import new_request_id
from keyreeve.values import Order

_SERVICE = "/keyreeve.ca.v1.TrustService"


class TrustClient:
    """The caller feed and members' records; reached as `Client.trust`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def set_members(
        self,
        array: str,
        members: Sequence[MemberRecord],
        *,
        order: Order,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Record members of an array by an order of the membership service."""
        request = pb.SetMembersRequest(
            array=wire.resource_name("arrays", array),
            order=wire.to_order(order),
            members=[wire.to_member_record(one) for one in members],
            request_id=request_id or new_request_id(),
        )
        await self._caller.unary(f"{_SERVICE}/SetMembers", request, pb.SetMembersResponse, timeout)

    async def watch_callers(
        self, restore_generation: int = 0, after_seq: int = 0
    ) -> AsyncGenerator[CallersUpdate, None]:
        """Iterate over updates of issuing CAs, operators' records and revocations.

        It begins after the given number, or with a snapshot; there is an update every 2 s.

        `keyreeve.caller_feed.KnownCallers` verifies the updates and stores them. The stream is opened again whenever it
        ends, from where it stopped; only a failure before the first update, or one that is not transient, is raised.
        """
        request = pb.WatchCallersRequest(restore_generation=restore_generation, after_seq=after_seq)
        in_snapshot = False
        async for message in self._caller.follow(f"{_SERVICE}/WatchCallers", request, pb.CallersUpdate):
            yield wire.from_callers_update(message)
            in_snapshot = (in_snapshot or message.after_seq == 0) and message.seq < message.head_seq
            # The request is sent anew when the stream is opened again; a snapshot then begins anew as well.
            if not in_snapshot:
                request.restore_generation, request.after_seq = message.restore_generation, message.seq
