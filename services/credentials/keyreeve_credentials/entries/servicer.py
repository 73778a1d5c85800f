"""EntryService: access rules, and messages to values and back."""

import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from keyreeve import errors
from keyreeve.credentials.v1 import entry_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, chosen, invalid, number_of, timestamp
from keyreeve_chassis.guard.paging import Pages, PageSizes
from keyreeve_chassis.idempotency.mutation import Mutations
from keyreeve_credentials.entries.importing import (
    MOST_IMPORTED,
    ImportIdentity,
    ImportRow,
    check_rows,
    existing,
    import_rows,
)
from keyreeve_credentials.entries.names import fold_pattern, parse_owner, parse_resource
from keyreeve_credentials.entries.ports import ROW, Entry, EntryFilter, EntryKind, EntrySource
from keyreeve_credentials.entries.request_secrets import SecretMasking
from keyreeve_credentials.entries.service import Entries, EntryValue
from keyreeve_credentials.policies.checking import AccessCheck, Tell
from keyreeve_credentials.policies.rules import LIST, MANAGE, parse_read_purpose

_SERVICE = "/keyreeve.credentials.v1.EntryService/"
_MANAGERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.MEMBER, Role.WORKLOAD})
_READERS = _MANAGERS | OPERATOR_ROLES
_PAGES = PageSizes(default=150, most=150)
_ARRAY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_PARENT = re.compile(rf"arrays/({_ARRAY})\Z")
_NAME = re.compile(rf"arrays/({_ARRAY})/entries/([0-9a-f]{{32}})\Z")
_MOST_IMPORT_BYTES = 16 * 1024 * 1024
_SEPARATOR: Final = "\x00"

ACCESS: AccessRules = through_gateways(
    {
        _SERVICE + "CreateEntry": AccessRule(
            _MANAGERS, forwarded=True, records=("parent", "entry.owner", "entry.resource", "entry.kind")
        ),
        _SERVICE + "GetEntry": AccessRule(_READERS, freshness=Freshness.TOLERANT),
        _SERVICE + "ListEntries": AccessRule(
            _READERS, freshness=Freshness.TOLERANT, records=("parent", "owner", "resource")
        ),
        _SERVICE + "UpdateEntry": AccessRule(_MANAGERS, forwarded=True, records=("entry.name", "update_mask.paths")),
        _SERVICE + "DeleteEntry": AccessRule(_MANAGERS, forwarded=True),
        _SERVICE + "DeleteEntries": AccessRule(_MANAGERS, forwarded=True, records=("parent", "owner", "resource")),
        _SERVICE + "ImportEntries": AccessRule(_MANAGERS, forwarded=True, batches=True, records=()),
        _SERVICE + "RevealEntry": AccessRule(_MANAGERS, records=("name",), reveals=True),
    },
    "CreateEntry",
    "ListEntries",
    "UpdateEntry",
    "DeleteEntries",
)

KINDS: Final = {pb.ENTRY_KIND_PASSWORD: EntryKind.PASSWORD, pb.ENTRY_KIND_SMART_CARD: EntryKind.SMART_CARD}
_SOURCES: Final = {
    pb.ENTRY_SOURCE_CALL: EntrySource.CALL,
    pb.ENTRY_SOURCE_DIALOG: EntrySource.DIALOG,
    pb.ENTRY_SOURCE_IMPORT: EntrySource.IMPORT,
}


def tell_of(call: Call) -> Tell:
    """What adds to a call's audit record."""
    return (lambda _field, _value: None) if call.record is None else call.record.tell


def array_of(name: str, field: str = "parent") -> str:
    """The array of `arrays/{array}`. Raises `FieldInvalid`."""
    found = _PARENT.match(name)
    if found is None:
        raise invalid(field, "a name of the form arrays/... is required")
    return found[1]


def entry_of(name: str, field: str = "name") -> tuple[str, str]:
    """Array and id of `arrays/{array}/entries/{entry}`. Raises `FieldInvalid`."""
    found = _NAME.match(name)
    if found is None:
        raise invalid(field, "a name of the form arrays/.../entries/... is required")
    return found[1], found[2]


def entry_message(entry: Entry) -> pb.Entry:
    """An entry as a message, without its secret."""
    return pb.Entry(
        name=entry.name,
        owner=entry.owner.text,
        resource=entry.resource.text,
        user_name=entry.user_name,
        domain=entry.domain,
        use_time=timestamp(entry.used_at) if entry.used_at else None,
        kind=number_of(KINDS, entry.kind),
        source=number_of(_SOURCES, entry.source),
        version=entry.version,
        encryption=entry.encryption,
        row_sha256=entry.row_sha256(),
        key=f"arrays/{entry.array_id}/keys/{entry.sealed.kek_id}",
        create_time=timestamp(entry.created_at),
        update_time=timestamp(entry.updated_at),
    )


def row_text(name: str, encryption: int, row_sha256: bytes) -> str:
    """One row in an audit record."""
    return f"{name} {encryption} {row_sha256.hex()}"


def deleted_text(name: str) -> str:
    """A deleted row in an audit record."""
    return f"{name} deleted"


def written(entry: pb.Entry) -> list[tuple[str, str]]:
    """What the audit record of a write says of the row: the scrubber compares the table with it."""
    return [(ROW, row_text(entry.name, entry.encryption, entry.row_sha256))]


@dataclass(frozen=True)
class EntryServicer:
    """Serves EntryService."""

    entries: Entries
    access: AccessCheck
    store: Store[Any]
    mutations: Mutations[Any]
    prepare: Callable[[str], Awaitable[None]]
    """Makes the first key of an array (`keys.vault.Vault.prepare`)."""
    masking: SecretMasking
    pages: Pages

    async def CreateEntry(self, request: pb.CreateEntryRequest, call: Call) -> pb.Entry:
        array_id = array_of(request.parent)
        owner, resource = parse_owner(request.entry.owner), parse_resource(request.entry.resource)
        kind = chosen(KINDS, request.entry.kind or pb.ENTRY_KIND_PASSWORD, "entry.kind")
        value = EntryValue(request.entry.user_name, kind, _secret(request), request.entry.domain)
        value.check()
        self.access.check(caller_of(call), array_id, owner.text, resource.text, MANAGE)
        await self.prepare(array_id)
        return await self.mutations(
            call,
            self.masking.masked(request),
            lambda tx: entry_message(self.entries.create(tx, array_id, owner, resource, value)),
            written,
        )

    async def GetEntry(self, request: pb.GetEntryRequest, call: Call) -> pb.Entry:
        array_id, uid = entry_of(request.name)
        entry = await self._get(array_id, uid)
        self.access.check(caller_of(call), array_id, entry.owner.text, entry.resource.text, LIST)
        return entry_message(entry)

    async def ListEntries(self, request: pb.ListEntriesRequest, call: Call) -> pb.ListEntriesResponse:
        array_id, caller = array_of(request.parent), caller_of(call)
        self.access.check(caller, array_id, None, None, LIST)
        wanted = EntryFilter(
            _name_pattern(request.owner, "owner"),
            _name_pattern(request.resource, "resource"),
            fold_pattern(request.user_name, "user_name"),
            request.login_only,
        )
        page = self.pages.open(call, request, _PAGES)
        after = None
        if page.after:
            owner, _, resource = page.after.partition(_SEPARATOR)
            after = (owner, resource)
        rows = await self.store.read(
            lambda tx: tx.entries.page(array_id, wanted, after=after, limit=page.size + 1), one_statement=True
        )
        last = rows[page.size - 1] if len(rows) > page.size else None
        return pb.ListEntriesResponse(
            entries=[
                entry_message(entry)
                for entry in rows[: page.size]
                if self.access.allows(caller, array_id, entry.owner.text, entry.resource.text, LIST)
            ],
            next_page_token=page.next_token(last and f"{last.owner.key}{_SEPARATOR}{last.resource.key}"),
        )

    async def UpdateEntry(self, request: pb.UpdateEntryRequest, call: Call) -> pb.Entry:
        array_id, uid = entry_of(request.entry.name, "entry.name")
        paths = _mask(request)
        kind = chosen(KINDS, request.entry.kind, "entry.kind") if "kind" in paths else None
        secret = _secret(request) if "secret" in paths else None
        user_name = request.entry.user_name if "user_name" in paths else None
        domain = request.entry.domain if "domain" in paths else None
        self.access.check(caller_of(call), array_id, None, None, MANAGE)
        await self.prepare(array_id)

        def act(tx: Any) -> pb.Entry:  # noqa: ANN401 - the service's transaction
            found = self._managed(tx, call, array_id, uid)
            if request.entry.version not in {0, found.version}:
                raise errors.EntryVersionStale(
                    f"{found.name} is at version {found.version}", metadata={"version": str(found.version)}
                )
            return entry_message(
                self.entries.update(tx, found, user_name=user_name, kind=kind, secret=secret, domain=domain)
            )

        return await self.mutations(call, self.masking.masked(request), act, written)

    async def DeleteEntry(self, request: pb.DeleteEntryRequest, call: Call) -> pb.DeleteEntryResponse:
        array_id, uid = entry_of(request.name)

        def act(tx: Any) -> pb.DeleteEntryResponse:  # noqa: ANN401
            self._managed(tx, call, array_id, uid)
            self.entries.delete(tx, array_id, uid)
            return pb.DeleteEntryResponse()

        return await self.mutations(call, request, act, lambda _: [(ROW, deleted_text(request.name))])

    async def DeleteEntries(self, request: pb.DeleteEntriesRequest, call: Call) -> pb.DeleteEntriesResponse:
        array_id = array_of(request.parent)
        owner = parse_owner(request.owner) if request.owner else None
        resource = parse_resource(request.resource) if request.resource else None
        self.access.check(caller_of(call), array_id, None, None, MANAGE)

        def act(tx: Any) -> pb.DeleteEntriesResponse:  # noqa: ANN401
            deleted, more = self.entries.delete_chosen(tx, array_id, owner, resource)
            for entry in deleted:
                self.access.check(caller_of(call), array_id, entry.owner.text, entry.resource.text, MANAGE)
            return pb.DeleteEntriesResponse(names=[entry.name for entry in deleted], more=more)

        return await self.mutations(call, request, act, lambda r: [(ROW, deleted_text(name)) for name in r.names])

    async def ImportEntries(
        self, requests: AsyncIterator[pb.ImportEntriesRequest], call: Call
    ) -> pb.ImportEntriesResponse:
        header, rows, digest = await self._read_import(requests)
        array_id = array_of(header.parent, "header.parent")
        if call.record is not None:
            call.record.tell("parent", header.parent)
            call.record.tell("rows", str(len(rows)))
        caller = caller_of(call)
        self.access.check(caller, array_id, None, None, MANAGE)
        checked = check_rows(
            rows,
            lambda owner, resource: self.access.check(caller, array_id, owner.text, resource.text, MANAGE),
        )
        if header.dry_run:
            known = await self.store.read(lambda tx: existing(tx, array_id, checked, replace=header.replace))
            return pb.ImportEntriesResponse(created=len(checked) - len(known), replaced=len(known), dry_run=True)
        await self.prepare(array_id)
        written_rows: list[tuple[str, str]] = []

        def act(tx: Any) -> pb.ImportEntriesResponse:  # noqa: ANN401
            known = existing(tx, array_id, checked, replace=header.replace)
            made = import_rows(self.entries, tx, array_id, checked, known)
            written_rows[:] = [(ROW, row_text(e.name, e.encryption, e.row_sha256())) for e in made]
            return pb.ImportEntriesResponse(created=len(made) - len(known), replaced=len(known))

        return await self.mutations(call, ImportIdentity(header.request_id, digest), act, lambda _: written_rows)

    async def _read_import(
        self, requests: AsyncIterator[pb.ImportEntriesRequest]
    ) -> tuple[pb.ImportHeader, list[ImportRow], bytes]:
        """The header, the rows, and a keyed hash of all of it, which makes the import idempotent."""
        header: pb.ImportHeader | None = None
        rows: list[ImportRow] = []
        digest = hmac.new(self.masking.key, digestmod="sha256")
        size = 0
        async for request in requests:
            digest.update(request.SerializeToString(deterministic=True))
            size += request.ByteSize()
            part = request.WhichOneof("part")
            if (part == "header") is (header is not None) or part is None:
                raise invalid("part", "one header is required, and it comes first")
            if part == "header":
                header = request.header
                continue
            if len(rows) >= MOST_IMPORTED or size > _MOST_IMPORT_BYTES:
                raise invalid("part", f"at most {MOST_IMPORTED} entries and {_MOST_IMPORT_BYTES} bytes in one import")
            one = request.entry
            kind = KINDS.get(one.entry.kind or pb.ENTRY_KIND_PASSWORD)
            value = None
            if kind is not None:
                value = EntryValue(one.entry.user_name, kind, Plaintext(one.secret), one.entry.domain)
            rows.append(ImportRow(one.line, one.entry.owner, one.entry.resource, value))
        if header is None:
            raise invalid("part", "a header is required")
        return header, rows, digest.digest()

    async def RevealEntry(self, request: pb.RevealEntryRequest, call: Call) -> pb.RevealEntryResponse:
        array_id, uid = entry_of(request.name)
        purpose = parse_read_purpose(request.purpose)
        entry = await self._get(array_id, uid)
        self.access.check_read(
            caller_of(call), array_id, entry.owner.text, entry.resource.text, purpose, tell=tell_of(call)
        )
        entry, secret = await self.entries.open_stored(self.store, entry)
        return pb.RevealEntryResponse(entry=entry_message(entry), secret=secret.reveal())

    def _managed(self, tx: Any, call: Call, array_id: str, uid: str) -> Entry:  # noqa: ANN401
        """An entry that the caller may manage. Raises `EntryNotFound`, `PolicyDenied`."""
        found = self.entries.get(tx, array_id, uid)
        self.access.check(caller_of(call), array_id, found.owner.text, found.resource.text, MANAGE)
        return found

    async def _get(self, array_id: str, uid: str) -> Entry:
        found: Entry = await self.store.read(lambda tx: self.entries.get(tx, array_id, uid), one_statement=True)
        return found


def _name_pattern(text: str, field: str) -> str:
    """A folded pattern; the beginning `.../_ens/` may be left out, as in names without wildcards."""
    if not text or "*" in text:
        return fold_pattern(text, field)
    return (parse_owner if field == "owner" else parse_resource)(text, field).key


def _mask(request: pb.UpdateEntryRequest) -> set[str]:
    paths = set(request.update_mask.paths)
    if not paths or paths - {"user_name", "domain", "kind", "secret"}:
        raise invalid("update_mask", "user_name, domain, kind, secret or several of these are required")
    return paths


def _secret(request: pb.CreateEntryRequest | pb.UpdateEntryRequest) -> Plaintext:
    """Take the secret out of the request, so that nothing that logs the request has it."""
    return Plaintext(request.secret)
