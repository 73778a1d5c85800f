"""Arrays of servers."""

from collections.abc import AsyncGenerator

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import array_service_pb2 as pb
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve.membership_values import Array, Server
from keyreeve.request_ids import new_request_id

_SERVICE = "/keyreeve.membership.v1.ArrayService"


class ArrayClient:
    """The arrays; reached as `Client.membership.arrays`.

    Arrays and members may be named in full (`arrays/web`, `members/web-1.example.com`) or by their last part. `request_id`
    makes a mutation idempotent: one is made for each call unless given, and kept over its retries. Every method raises
    `keyreeve.errors` and takes a `timeout` in seconds over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        server: Server,
        *,
        array_id: str = "",
        legacy: bool = False,
        peer_security: bool | None = None,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Array:
        """Register a server as the primary of an array of one, with a CA of its own.

        `legacy` turns peer security off unless `peer_security` says otherwise.
        """
        security = {
            None: member_pb.PEER_SECURITY_UNSPECIFIED,
            True: member_pb.PEER_SECURITY_ON,
            False: member_pb.PEER_SECURITY_OFF,
        }
        request = pb.CreateArrayRequest(
            array_id=array_id,
            server=wire.to_server(server),
            legacy=legacy,
            peer_security=security[peer_security],
            request_id=request_id or new_request_id(),
        )
        return wire.from_array(await self._caller.unary(f"{_SERVICE}/CreateArray", request, pb.Array, timeout))

    async def get(self, name: str, *, timeout: float | None = None) -> Array:
        """Look up an array."""
        request = pb.GetArrayRequest(name=wire.array_name(name))
        return wire.from_array(await self._caller.unary(f"{_SERVICE}/GetArray", request, pb.Array, timeout))

    async def list(
        self, *, dissolved: bool = False, page_size: int = 100, timeout: float | None = None
    ) -> AsyncGenerator[Array, None]:
        """Iterate over the arrays by name; `timeout` is for each page."""
        request = pb.ListArraysRequest(page_size=page_size, show_dissolved=dissolved)
        while True:
            method = f"{_SERVICE}/ListArrays"
            page = await self._caller.unary(method, request, pb.ListArraysResponse, timeout)
            for message in page.arrays:
                yield wire.from_array(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
