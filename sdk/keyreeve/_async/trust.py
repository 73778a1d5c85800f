"""The caller feed: what a service must know of callers beside certificates."""

from collections.abc import AsyncGenerator

from keyreeve import wire
from keyreeve._async.calls import Caller
from keyreeve.ca.v1 import trust_service_pb2 as pb
from keyreeve.caller_values import CallersUpdate

_SERVICE = "/keyreeve.ca.v1.TrustService"


class TrustClient:
    """The caller feed; reached as `Client.trust`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def watch_callers(
        self, restore_generation: int = 0, after_seq: int = 0
    ) -> AsyncGenerator[CallersUpdate, None]:
        """Iterate over updates of issuing CAs, operators' records and revocations.

        It begins after the given number, or with a snapshot; there is an update each second.

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
