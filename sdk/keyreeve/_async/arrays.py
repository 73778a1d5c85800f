"""Arrays of servers."""

from collections.abc import AsyncGenerator

from google.protobuf.message import Message

from keyreeve import membership_wire as wire
from keyreeve._async.calls import Caller
from keyreeve.membership.v1 import array_service_pb2 as pb
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve.membership_values import Array, Server
from keyreeve.operation_values import Operation
from keyreeve.operation_wire import from_operation
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
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

    async def join(
        self,
        primary: str,
        secondary: str,
        *,
        accepted_sha256: bytes = b"",
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation:
        """Start adding a server that stands alone to the array of a primary.

        `accepted_sha256` is the fingerprint of the array's CA that a person has accepted (`Array.authority_sha256`).
        """
        request = pb.JoinArrayRequest(
            primary=wire.member_name(primary),
            secondary=wire.member_name(secondary),
            accepted_sha256=accepted_sha256,
            request_id=request_id or new_request_id(),
        )
        return await self._begin("JoinArray", request, timeout)

    async def detach(self, member: str, *, request_id: str | None = None, timeout: float | None = None) -> Operation:
        """Start removing a secondary from its array."""
        request = pb.DetachMemberRequest(member=wire.member_name(member), request_id=request_id or new_request_id())
        return await self._begin("DetachMember", request, timeout)

    async def promote(self, member: str, *, request_id: str | None = None, timeout: float | None = None) -> Operation:
        """Start making a secondary the primary of its array, with a new CA."""
        request = pb.PromotePrimaryRequest(member=wire.member_name(member), request_id=request_id or new_request_id())
        return await self._begin("PromotePrimary", request, timeout)

    async def dissolve(self, name: str, *, request_id: str | None = None, timeout: float | None = None) -> Operation:
        """Start detaching all secondaries of an array."""
        request = pb.DissolveArrayRequest(name=wire.array_name(name), request_id=request_id or new_request_id())
        return await self._begin("DissolveArray", request, timeout)

    async def clean(
        self,
        member: str,
        *,
        only_if_disagreeing: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Operation:
        """Start returning a server to an array of one without its help."""
        mode = pb.CLEAN_MODE_ONLY_IF_DISAGREEING if only_if_disagreeing else pb.CLEAN_MODE_ALWAYS
        request = pb.CleanMemberRequest(
            member=wire.member_name(member), mode=mode, request_id=request_id or new_request_id()
        )
        return await self._begin("CleanMember", request, timeout)

    async def _begin(self, method: str, request: Message, timeout: float | None) -> Operation:
        response = await self._caller.unary(f"{_SERVICE}/{method}", request, operation_pb.Operation, timeout)
        return from_operation(response)
