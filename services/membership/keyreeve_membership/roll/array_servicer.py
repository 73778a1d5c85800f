"""ArrayService: access rules, and messages to values and back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from keyreeve.identity import OPERATOR_ROLES, Caller, Role
from keyreeve.membership.v1 import array_service_pb2 as pb
from keyreeve.membership.v1 import member_service_pb2 as member_pb
from keyreeve.operations.v1 import operation_service_pb2 as operation_pb
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, id_of
from keyreeve_chassis.guard.paging import Pages
from keyreeve_chassis.idempotency.mutation import Act, MutationRequest, Mutations
from keyreeve_chassis.operations.ports import Operation
from keyreeve_chassis.operations.servicer import operation_message
from keyreeve_membership.authorities.ports import ArrayAuthorities, KeyType, Order
from keyreeve_membership.changes.progress import publish_members
from keyreeve_membership.changes.service import Changes
from keyreeve_membership.messages import array_message
from keyreeve_membership.roll import names
from keyreeve_membership.roll.access import may_look_at, require_agent_of, require_agent_of_primary
from keyreeve_membership.roll.digests import sha256
from keyreeve_membership.roll.ports import Array
from keyreeve_membership.roll.service import Roll, Server, get_array, get_member
from keyreeve_membership.rotations.service import Rotations
from keyreeve_membership.store.ports import Transaction

SERVICE = "/keyreeve.membership.v1.ArrayService/"
READERS = OPERATOR_ROLES | {Role.MEMBER, Role.CREDENTIALS}
CHANGERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.MEMBER})
READ = AccessRule(READERS, freshness=Freshness.TOLERANT)

ACCESS: AccessRules = through_gateways(
    {
        SERVICE + "CreateArray": AccessRule(CHANGERS, forwarded=True, records=("array_id", "server.name")),
        SERVICE + "GetArray": READ,
        SERVICE + "ListArrays": READ,
        SERVICE + "JoinArray": AccessRule(CHANGERS, forwarded=True, records=("primary", "secondary")),
        SERVICE + "DetachMember": AccessRule(CHANGERS, forwarded=True, records=("member",)),
        SERVICE + "PromotePrimary": AccessRule(CHANGERS, forwarded=True, records=("member",)),
        SERVICE + "DissolveArray": AccessRule(CHANGERS, forwarded=True),
        SERVICE + "CleanMember": AccessRule(CHANGERS - {Role.MEMBER}, forwarded=True, records=("member", "mode")),
    },
    "GetArray",
    "JoinArray",
    "DetachMember",
    "PromotePrimary",
    "CleanMember",
)
_SECURITY = {member_pb.PEER_SECURITY_ON: True, member_pb.PEER_SECURITY_OFF: False}


@dataclass(frozen=True)
class ArrayServicer:
    """Serves ArrayService."""

    roll: Roll
    changes: Changes
    rotations: Rotations
    authorities: ArrayAuthorities
    store: Store[Transaction]
    mutations: Mutations[Transaction]
    pages: Pages
    refuse_altered: Callable[[], None]
    """Raises `TrustTableAltered` while another has written into the roll."""

    async def CreateArray(self, request: pb.CreateArrayRequest, call: Call) -> pb.Array:
        caller = caller_of(call)
        server = read_server(request.server)
        require_agent_of(caller, server.name)
        self.refuse_altered()
        number = sha256(f"{caller.claimant} {request.request_id}".encode()).hex()[:8]
        array_id = names.check_array_id(request.array_id or names.default_array_id(server.name, number))
        secured = _SECURITY.get(request.peer_security, not request.legacy)

        async def prepare(run: Callable[[Act[Transaction, pb.Array]], Awaitable[pb.Array]]) -> pb.Array:
            await self.store.read(lambda tx: self.roll.refuse_known(tx, array_id, server.name))
            # Nobody else changes an array that does not exist yet: no lease, and fences of leases are above 0.
            order = Order(array_id, 1, 1, 0, "create")
            authority_id = f"{array_id}-{number}"
            await self.authorities.create(order, authority_id, f"Array {array_id} {number}", KeyType.P256)
            authority = await self.authorities.activate(order, authority_id)

            def act(tx: Transaction) -> pb.Array:
                made = self.roll.create_array(tx, array_id, server, authority, peer_security=secured, actor=str(caller))
                publish_members(tx, self.roll.now())
                return _message(tx, made)

            return await run(act)

        return await self.mutations.prepared(call, request, prepare)

    async def GetArray(self, request: pb.GetArrayRequest, call: Call) -> pb.Array:
        caller, array_id = caller_of(call), id_of(request.name, "arrays")
        return await self.store.read(lambda tx: _seen_by(tx, caller, get_array(tx, array_id)))

    async def ListArrays(self, request: pb.ListArraysRequest, call: Call) -> pb.ListArraysResponse:
        page, caller = self.pages.open(call, request), caller_of(call)

        def read(tx: Transaction) -> tuple[list[pb.Array], str | None]:
            rows = tx.roll.arrays(after=page.after, limit=page.size + 1, dissolved=request.show_dissolved)
            last = rows[page.size - 1].array_id if len(rows) > page.size else None
            return [_seen_by(tx, caller, row) for row in rows[: page.size]], last

        arrays, last = await self.store.read(read)
        return pb.ListArraysResponse(arrays=arrays, next_page_token=page.next_token(last))

    async def JoinArray(self, request: pb.JoinArrayRequest, call: Call) -> operation_pb.Operation:
        caller, primary = caller_of(call), id_of(request.primary, "members", "primary")
        secondary = id_of(request.secondary, "members", "secondary")
        require_agent_of(caller, secondary)
        return await self._begin(
            request,
            call,
            lambda tx: self.changes.join(
                tx, primary, secondary, request.accepted_sha256, str(caller), by_agent=caller.role is Role.MEMBER
            ),
        )

    async def DetachMember(self, request: pb.DetachMemberRequest, call: Call) -> operation_pb.Operation:
        caller, member = caller_of(call), id_of(request.member, "members", "member")

        def begin(tx: Transaction) -> Operation:
            require_agent_of_primary(tx, caller, get_member(tx, member).array_id)
            return self.changes.detach(tx, member, str(caller))

        return await self._begin(request, call, begin)

    async def PromotePrimary(self, request: pb.PromotePrimaryRequest, call: Call) -> operation_pb.Operation:
        caller, member = caller_of(call), id_of(request.member, "members", "member")

        def begin(tx: Transaction) -> Operation:
            require_agent_of_primary(tx, caller, get_member(tx, member).array_id)
            found = tx.operations.get(self.rotations.promote(tx, member, str(caller)).operation_id)
            assert found is not None, "it has just been stored"
            return found

        return await self._begin(request, call, begin)

    async def DissolveArray(self, request: pb.DissolveArrayRequest, call: Call) -> operation_pb.Operation:
        caller, array_id = caller_of(call), id_of(request.name, "arrays")

        def begin(tx: Transaction) -> Operation:
            require_agent_of_primary(tx, caller, array_id)
            return self.changes.dissolve(tx, array_id, str(caller))

        return await self._begin(request, call, begin)

    async def CleanMember(self, request: pb.CleanMemberRequest, call: Call) -> operation_pb.Operation:
        member, actor = id_of(request.member, "members", "member"), str(caller_of(call))
        only = request.mode == pb.CLEAN_MODE_ONLY_IF_DISAGREEING
        return await self._begin(
            request, call, lambda tx: self.changes.clean(tx, member, actor, only_if_disagreeing=only)
        )

    async def _begin(
        self, request: MutationRequest, call: Call, begin: Callable[[Transaction], Operation]
    ) -> operation_pb.Operation:
        self.refuse_altered()
        return await self.mutations(call, request, lambda tx: operation_message(begin(tx)))


def read_server(message: member_pb.Server) -> Server:
    """What a request says of a server. Raises `FieldInvalid`."""
    return Server(
        names.check_member_name(id_of(message.name, "members", "server.name"), "server.name"),
        names.check_address(message.address, "server.address"),
        names.check_external_names(tuple(message.external_names), "server.external_names"),
        names.check_release(message.release, "server.release"),
    )


def _seen_by(tx: Transaction, caller: Caller, array: Array) -> pb.Array:
    """An array as a caller sees it: of other arrays than its own, an agent sees what a join needs."""
    message = _message(tx, array)
    if not may_look_at(tx, caller, array.array_id):
        for field in ("member_count", "change", "backup_primaries"):
            message.ClearField(field)
    return message


def _message(tx: Transaction, array: Array) -> pb.Array:
    return array_message(array, tx.roll.members_of(array.array_id))
