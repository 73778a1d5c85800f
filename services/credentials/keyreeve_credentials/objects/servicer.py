"""ObjectService: access rules, and messages to values and back."""

from dataclasses import dataclass
from typing import Any, Final

from keyreeve.credentials.v1 import object_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, chosen, invalid, number_of, timestamp
from keyreeve_chassis.guard.paging import Pages, PageSizes
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_credentials.entries.servicer import array_of
from keyreeve_credentials.objects.ports import ApplicationKind, ObjectKind, PasswordCacheUsage, StoredObject
from keyreeve_credentials.objects.service import Objects, parse_object_name
from keyreeve_credentials.policies.checking import AccessCheck
from keyreeve_credentials.policies.rules import LIST, MANAGE

_SERVICE = "/keyreeve.credentials.v1.ObjectService/"
_MANAGERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.MEMBER, Role.WORKLOAD})
_READERS = _MANAGERS | OPERATOR_ROLES
_PAGES = PageSizes(default=150, most=150)
_RECORDS = ("object.parent", "object.object_name", "object.kind")

ACCESS: AccessRules = through_gateways(
    {
        _SERVICE + "CreateObject": AccessRule(_MANAGERS, forwarded=True, records=_RECORDS),
        _SERVICE + "GetObject": AccessRule(_READERS, freshness=Freshness.TOLERANT, records=("parent", "object_name")),
        _SERVICE + "ListObjects": AccessRule(_READERS, freshness=Freshness.TOLERANT, records=("parent", "kind")),
        _SERVICE + "UpdateObject": AccessRule(_MANAGERS, forwarded=True, records=(*_RECORDS, "update_mask.paths")),
        _SERVICE + "DeleteObject": AccessRule(_MANAGERS, forwarded=True, records=("parent", "object_name")),
    },
    "CreateObject",
    "GetObject",
    "UpdateObject",
    "DeleteObject",
)

KINDS: Final = {
    pb.OBJECT_KIND_APPLICATION_SERVER: ObjectKind.APPLICATION_SERVER,
    pb.OBJECT_KIND_DYNAMIC_APPLICATION_SERVER: ObjectKind.DYNAMIC_APPLICATION_SERVER,
    pb.OBJECT_KIND_APPLICATION: ObjectKind.APPLICATION,
    pb.OBJECT_KIND_USER_PROFILE: ObjectKind.USER_PROFILE,
}
APPLICATION_KINDS: Final = {
    pb.APPLICATION_KIND_WINDOWS: ApplicationKind.WINDOWS,
    pb.APPLICATION_KIND_X: ApplicationKind.X,
    pb.APPLICATION_KIND_CHARACTER: ApplicationKind.CHARACTER,
}
USAGES: Final = {
    pb.PASSWORD_CACHE_USAGE_UNSPECIFIED: PasswordCacheUsage.DEFAULT,
    pb.PASSWORD_CACHE_USAGE_TRY: PasswordCacheUsage.TRY,
    pb.PASSWORD_CACHE_USAGE_NEVER: PasswordCacheUsage.NEVER,
}
_MASK: Final = frozenset({"domain", "password_cache_usage", "application_kind", "enhanced_network_security"})


def object_message(stored: StoredObject) -> pb.Object:
    """An object as a message."""
    kind = stored.application_kind
    message = pb.Object(
        parent=f"arrays/{stored.array_id}",
        object_name=stored.name.text,
        kind=number_of(KINDS, stored.kind),
        domain=stored.domain,
        password_cache_usage=number_of(USAGES, stored.password_cache_usage),
        application_kind=pb.APPLICATION_KIND_UNSPECIFIED if kind is None else number_of(APPLICATION_KINDS, kind),
        version=stored.version,
        create_time=timestamp(stored.created_at),
        update_time=timestamp(stored.updated_at),
    )
    if kind is ApplicationKind.WINDOWS:
        message.enhanced_network_security = stored.enhanced_network_security
    return message


@dataclass(frozen=True)
class ObjectServicer:
    """Serves ObjectService."""

    objects: Objects
    access: AccessCheck
    store: Store[Any]
    mutations: Mutations[Any]
    pages: Pages

    async def CreateObject(self, request: pb.CreateObjectRequest, call: Call) -> pb.Object:
        message = request.object
        kind = chosen(KINDS, message.kind, "object.kind")
        server = kind in {ObjectKind.APPLICATION_SERVER, ObjectKind.DYNAMIC_APPLICATION_SERVER}
        made = StoredObject(
            array_of(message.parent, "object.parent"),
            parse_object_name(message.object_name, "object.object_name", server=server),
            kind,
            **_attributes(message, set(_MASK)),
        )
        self.access.check(caller_of(call), made.array_id, None, made.name.text, MANAGE)
        return await self.mutations(call, request, lambda tx: object_message(self.objects.create(tx, made)))

    async def GetObject(self, request: pb.GetObjectRequest, call: Call) -> pb.Object:
        array_id, name = array_of(request.parent), parse_object_name(request.object_name, "object_name", server=True)
        self.access.check(caller_of(call), array_id, None, name.text, LIST)
        found = await self.store.read(lambda tx: self.objects.get(tx, array_id, name), one_statement=True)
        return object_message(found)

    async def ListObjects(self, request: pb.ListObjectsRequest, call: Call) -> pb.ListObjectsResponse:
        array_id, kind = array_of(request.parent), KINDS.get(request.kind)
        caller = caller_of(call)
        self.access.check(caller, array_id, None, None, LIST)
        page = self.pages.open(call, request, _PAGES)
        rows = await self.store.read(
            lambda tx: tx.objects.page(array_id, kind, after=page.after, limit=page.size + 1), one_statement=True
        )
        last = rows[page.size - 1].name.key if len(rows) > page.size else None
        return pb.ListObjectsResponse(
            objects=[
                object_message(stored)
                for stored in rows[: page.size]
                if self.access.allows(caller, array_id, None, stored.name.text, LIST)
            ],
            next_page_token=page.next_token(last),
        )

    async def UpdateObject(self, request: pb.UpdateObjectRequest, call: Call) -> pb.Object:
        message, paths = request.object, set(request.update_mask.paths)
        array_id = array_of(message.parent, "object.parent")
        name = parse_object_name(message.object_name, "object.object_name", server=True)
        if not paths or paths - _MASK:
            raise invalid("update_mask", f"one or several of {', '.join(sorted(_MASK))} are required")
        changes = _attributes(message, paths)
        self.access.check(caller_of(call), array_id, None, name.text, MANAGE)
        return await self.mutations(
            call, request, lambda tx: object_message(self.objects.update(tx, array_id, name, message.version, changes))
        )

    async def DeleteObject(self, request: pb.DeleteObjectRequest, call: Call) -> pb.DeleteObjectResponse:
        array_id, name = array_of(request.parent), parse_object_name(request.object_name, "object_name", server=True)

        self.access.check(caller_of(call), array_id, None, name.text, MANAGE)

        def act(tx: Any) -> pb.DeleteObjectResponse:  # noqa: ANN401 - the service's transaction
            self.objects.delete(tx, array_id, name)
            return pb.DeleteObjectResponse()

        return await self.mutations(call, request, act)


def _attributes(message: pb.Object, paths: set[str]) -> dict[str, Any]:
    security = message.enhanced_network_security if message.HasField("enhanced_network_security") else True
    values = {
        "domain": message.domain,
        "password_cache_usage": USAGES[message.password_cache_usage],
        "application_kind": APPLICATION_KINDS.get(message.application_kind),
        "enhanced_network_security": security,
    }
    return {name: value for name, value in values.items() if name in paths}
