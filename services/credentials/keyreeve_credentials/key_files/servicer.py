"""KeyFileService: access rules, and calls of the use cases."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from keyreeve.credentials.v1 import key_file_service_pb2 as pb
from keyreeve.errors import KeyFileTooLarge
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.ports import Store
from keyreeve_chassis.guard.access import AccessRule, AccessRules, through_gateways
from keyreeve_chassis.guard.call import Call, caller_of, invalid
from keyreeve_chassis.guard.paging import Pages, PageSizes
from keyreeve_chassis.idempotency.mutation import MutationRequest, Mutations
from keyreeve_credentials.entries.request_secrets import SecretMasking
from keyreeve_credentials.entries.servicer import deleted_text, tell_of
from keyreeve_credentials.key_documents.contents import MOST_BYTES, inspect_file, is_public
from keyreeve_credentials.key_documents.matching import bundle_warnings, key_matches, verify_file
from keyreeve_credentials.key_files.file_names import parse_basename, parse_file_name
from keyreeve_credentials.key_files.messages import (
    KEY_CHOICES,
    attributes_of,
    element_message,
    file_message,
    file_of,
    made_message,
    row_results,
    space_of,
    token_of,
    written_results,
)
from keyreeve_credentials.key_files.ports import FILE_ROW, Space, StoredFile
from keyreeve_credentials.key_files.service import Overwriting, Written
from keyreeve_credentials.key_files.workshop import NewFiles, Workshop
from keyreeve_credentials.policies.checking import AccessCheck
from keyreeve_credentials.policies.rules import LIST, MANAGE, parse_read_purpose

_SERVICE = "/keyreeve.credentials.v1.KeyFileService/"
_MANAGERS = frozenset({Role.ADMIN, Role.OPERATOR, Role.MEMBER})
_READERS = _MANAGERS | OPERATOR_ROLES
_PAGES = PageSizes(default=150, most=150)
_CHUNK = 64 * 1024


def _change(*records: str) -> AccessRule:
    return AccessRule(_MANAGERS, forwarded=True, records=records)


ACCESS: AccessRules = through_gateways(
    {
        _SERVICE + "PutFile": AccessRule(_MANAGERS, batches=True),
        _SERVICE + "GetFile": AccessRule(_MANAGERS, records=("name",), reveals=True),
        _SERVICE + "ListFiles": AccessRule(_READERS, records=("parent",)),
        _SERVICE + "RenameFile": _change("name", "new_name", "force"),
        _SERVICE + "DeleteFile": _change("name", "force"),
        _SERVICE + "AssignFiles": _change("parent", "service", "files"),
        _SERVICE + "CreateRequest": _change("parent", "basename", "attributes.common_name", "force"),
        _SERVICE + "CreateSelfSigned": _change("parent", "basename", "attributes.common_name", "force"),
        _SERVICE + "SignRequest": _change("parent", "basename", "ca_basename"),
        _SERVICE + "InspectFile": AccessRule(_READERS, records=("name",)),
        _SERVICE + "MatchFiles": AccessRule(_READERS, records=("parent", "key", "certificate")),
        _SERVICE + "VerifyFile": AccessRule(_READERS, records=("parent", "certificate", "bundle")),
        _SERVICE + "UnlockKey": _change("name"),
        _SERVICE + "ConvertPkcs12": _change("name", "basename", "force"),
        _SERVICE + "ExportPkcs12": _change("parent", "key", "certificate", "file"),
    },
    "PutFile",
    "GetFile",
    "ListFiles",
    "RenameFile",
    "DeleteFile",
    "CreateRequest",
    "CreateSelfSigned",
    "SignRequest",
    "InspectFile",
    "MatchFiles",
    "VerifyFile",
    "UnlockKey",
    "ConvertPkcs12",
)


@dataclass(frozen=True)
class KeyFileServicer:
    """Serves KeyFileService."""

    workshop: Workshop
    access: AccessCheck
    store: Store[Any]
    mutations: Mutations[Any]
    prepare: Callable[[str], Awaitable[None]]
    """Makes the first key of an array (`keys.vault.Vault.prepare`)."""
    pages: Pages
    masking: SecretMasking

    async def PutFile(self, requests: AsyncIterator[pb.PutFileRequest], call: Call) -> pb.KeyFile:
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("part") != "header":
            raise invalid("header", "required in the first message")
        header = first.header
        space, name = file_of(header.name, "header.name")
        self._allow(call, space, MANAGE, {name})
        tell_of(call)("name", header.name)
        contents = Plaintext(await _received(requests))
        overwriting = Overwriting(header.replace, header.force)
        await self.prepare(space.array_id)

        rows: list[tuple[str, str]] = []

        def act(tx: Any) -> pb.KeyFile:  # noqa: ANN401 - the service's transaction
            written = self.workshop.files.write(tx, space, {name: contents}, overwriting)
            rows[:] = row_results(written)
            return file_message(written.files[0], tx.key_files.uses(space))

        # The contents are part of what one request id stands for; the stored hash of the request allows no guess at them.
        asked = pb.FileHeader(request_id=header.request_id, replace=header.replace, force=header.force)
        asked.name = f"{header.name} {self.masking.digest(contents.reveal()).hex()}"
        return await self.mutations(call, asked, act, lambda _: rows)

    async def GetFile(self, request: pb.GetFileRequest, call: Call) -> AsyncIterator[pb.GetFileResponse]:
        space, name = file_of(request.name)
        self._allow(call, space, LIST, {name})
        stored, contents, uses = await self.workshop.opened(space, name)
        # The contents decide, not what the row says of them: who can write the database must not gain rights.
        if not await asyncio.to_thread(is_public, contents):
            purpose = parse_read_purpose(request.purpose)
            self.access.check_read(
                caller_of(call), space.array_id, space.server, _resource(name), purpose, tell=tell_of(call)
            )
        yield pb.GetFileResponse(file=file_message(stored, uses))
        for start in range(0, len(contents), _CHUNK):
            yield pb.GetFileResponse(data=contents[start : start + _CHUNK])

    async def ListFiles(self, request: pb.ListFilesRequest, call: Call) -> pb.ListFilesResponse:
        space = space_of(request.parent)
        self._allow(call, space, LIST)
        page = self.pages.open(call, request, _PAGES)
        rows, uses = await self.store.read(
            lambda tx: (
                tx.key_files.page(space, after=page.after, limit=page.size + 1),
                tx.key_files.uses(space),
            )
        )
        last = rows[page.size - 1].name if len(rows) > page.size else None
        return pb.ListFilesResponse(
            files=[file_message(stored, uses) for stored in rows[: page.size]], next_page_token=page.next_token(last)
        )

    async def RenameFile(self, request: pb.RenameFileRequest, call: Call) -> pb.KeyFile:
        space, name = file_of(request.name)
        new_name = parse_file_name(request.new_name, "new_name")
        self._allow(call, space, MANAGE, {name, new_name})
        overwriting = Overwriting(request.replace, request.force)
        await self.prepare(space.array_id)

        rows: list[tuple[str, str]] = []

        def act(tx: Any) -> pb.KeyFile:  # noqa: ANN401
            written = self.workshop.files.rename(tx, space, name, new_name, overwriting)
            rows[:] = row_results(written)
            return file_message(written.files[0], tx.key_files.uses(space))

        return await self.mutations(call, request, act, lambda _: rows)

    async def DeleteFile(self, request: pb.DeleteFileRequest, call: Call) -> pb.DeleteFileResponse:
        space, name = file_of(request.name)
        self._allow(call, space, MANAGE, {name})

        def act(tx: Any) -> pb.DeleteFileResponse:  # noqa: ANN401
            self.workshop.files.delete(tx, space, name, force=request.force)
            return pb.DeleteFileResponse()

        gone = [("deleted", request.name), (FILE_ROW, deleted_text(f"{space.name}/files/{name}"))]
        return await self.mutations(call, request, act, lambda _: gone)

    async def AssignFiles(self, request: pb.AssignFilesRequest, call: Call) -> pb.AssignFilesResponse:
        space, service = space_of(request.parent), token_of(request.service, "service")
        names = [parse_file_name(name, f"files[{i}]") for i, name in enumerate(request.files)]
        self._allow(call, space, MANAGE, names)

        def act(tx: Any) -> pb.AssignFilesResponse:  # noqa: ANN401
            assigned = self.workshop.files.assign(tx, space, service, names)
            uses = tx.key_files.uses(space)
            return pb.AssignFilesResponse(files=[file_message(stored, uses) for stored in assigned])

        return await self.mutations(call, request, act)

    async def CreateRequest(self, request: pb.CreateRequestRequest, call: Call) -> pb.MadeFiles:
        space, basename = space_of(request.parent), parse_basename(request.basename)
        self._allow(call, space, MANAGE, {basename})
        attributes, choice = attributes_of(request.attributes), KEY_CHOICES[request.key_type]
        made = await self.workshop.request(basename, attributes, choice)
        return await self._store(call, request, space, made, Overwriting(request.replace, request.force))

    async def CreateSelfSigned(self, request: pb.CreateSelfSignedRequest, call: Call) -> pb.MadeFiles:
        space, basename = space_of(request.parent), parse_basename(request.basename)
        self._allow(call, space, MANAGE, {basename})
        attributes, choice = attributes_of(request.attributes), KEY_CHOICES[request.key_type]
        made = await self.workshop.self_signed(basename, attributes, choice, request.days)
        return await self._store(call, request, space, made, Overwriting(request.replace, request.force))

    async def SignRequest(self, request: pb.SignRequestRequest, call: Call) -> pb.MadeFiles:
        space, basename = space_of(request.parent), parse_basename(request.basename)
        ca_basename = parse_basename(request.ca_basename, "ca_basename")
        self._allow(call, space, MANAGE, {basename, ca_basename})
        made = await self.workshop.signed(space, basename, ca_basename, request.days)
        return await self._store(call, request, space, made, Overwriting(request.replace))

    async def InspectFile(self, request: pb.InspectFileRequest, call: Call) -> pb.InspectFileResponse:
        space, name = file_of(request.name)
        self._allow(call, space, LIST, {name})
        stored, contents, uses = await self.workshop.opened(space, name)
        elements = await asyncio.to_thread(inspect_file, contents)
        certificates = [one for one in elements if one.kind.value == "certificate"]
        return pb.InspectFileResponse(
            file=file_message(stored, uses),
            elements=[element_message(one) for one in elements],
            warnings=bundle_warnings(contents) if certificates else (),
        )

    async def MatchFiles(self, request: pb.MatchFilesRequest, call: Call) -> pb.MatchFilesResponse:
        space = space_of(request.parent)
        key, certificate = await self._contents(call, space, {"key": request.key, "certificate": request.certificate})
        return pb.MatchFilesResponse(matches=await asyncio.to_thread(key_matches, key, certificate))

    async def VerifyFile(self, request: pb.VerifyFileRequest, call: Call) -> pb.VerifyFileResponse:
        space = space_of(request.parent)
        wanted = {"certificate": request.certificate, "bundle": request.bundle}
        if request.root:
            wanted["root"] = request.root
        certificate, bundle, *root = await self._contents(call, space, wanted)
        now = self.workshop.now_time()
        found = await asyncio.to_thread(verify_file, certificate, bundle, root[0] if root else None, now)
        return pb.VerifyFileResponse(
            verified=found.verified, chain=found.chain, problems=found.problems, warnings=found.warnings
        )

    async def UnlockKey(self, request: pb.UnlockKeyRequest, call: Call) -> pb.KeyFile:
        space, name = file_of(request.name)
        self._allow(call, space, MANAGE, {name})
        before: StoredFile = await self.store.read(lambda tx: self.workshop.files.get(tx, space, name))
        unlocked = await self.workshop.unlocked(space, name, Plaintext(request.passphrase))

        rows: list[tuple[str, str]] = []

        def act(tx: Any) -> pb.KeyFile:  # noqa: ANN401
            stored = self.workshop.files.set_contents(tx, before, unlocked)
            rows[:] = row_results(Written((stored,)))
            return file_message(stored, tx.key_files.uses(space))

        return await self.mutations(call, self.masking.masked(request, "passphrase"), act, lambda _: rows)

    async def ConvertPkcs12(self, request: pb.ConvertPkcs12Request, call: Call) -> pb.MadeFiles:
        (space, name), basename = file_of(request.name), parse_basename(request.basename)
        self._allow(call, space, MANAGE, {name, basename})
        made = await self.workshop.converted(space, name, Plaintext(request.passphrase), basename)
        masked = self.masking.masked(request, "passphrase")
        return await self._store(call, masked, space, made, Overwriting(request.replace, request.force))

    async def ExportPkcs12(self, request: pb.ExportPkcs12Request, call: Call) -> pb.MadeFiles:
        space, target = space_of(request.parent), parse_file_name(request.file, "file")
        names = {"key": request.key, "certificate": request.certificate, "bundle": request.bundle}
        for field, name in names.items():
            if name or field != "bundle":
                parse_file_name(name, field)
        self._allow(call, space, MANAGE, {target, *filter(None, names.values())})
        passphrase = Plaintext(request.passphrase)
        sources = (request.key, request.certificate, request.bundle)
        made = await self.workshop.exported(space, sources, target, passphrase, request.alias, legacy=request.legacy)
        masked = self.masking.masked(request, "passphrase")
        return await self._store(call, masked, space, made, Overwriting(request.replace))

    async def _store(
        self,
        call: Call,
        request: MutationRequest,
        space: Space,
        made: NewFiles,
        overwriting: Overwriting,
    ) -> pb.MadeFiles:
        await self.prepare(space.array_id)

        rows: list[tuple[str, str]] = []

        def act(tx: Any) -> pb.MadeFiles:  # noqa: ANN401
            written = self.workshop.files.write(tx, space, made.contents, overwriting)
            rows[:] = row_results(written)
            return made_message(written, tx.key_files.uses(space), made.warnings)

        return await self.mutations(call, request, act, lambda answer: [*written_results(answer), *rows])

    async def _contents(self, call: Call, space: Space, wanted: dict[str, str]) -> list[bytes]:
        names = [parse_file_name(name, field) for field, name in wanted.items()]
        self._allow(call, space, LIST, names)
        found: list[bytes] = await self.store.read(
            lambda tx: [self.workshop.files.read(tx, space, name) for name in names]
        )
        return found

    def _allow(self, call: Call, space: Space, purpose: str, names: Collection[str] = ()) -> None:
        """Check that the caller may do this to the files of these names. Raises `PolicyDenied`."""
        for name in names or (None,):
            resource = None if name is None else _resource(name)
            self.access.check(caller_of(call), space.array_id, space.server, resource, purpose)


def _resource(name: str) -> str:
    """How policies see a file: the server is its owner."""
    return f"file/{name}"


async def _received(requests: AsyncIterator[pb.PutFileRequest]) -> bytes:
    contents = bytearray()
    async for message in requests:
        if message.WhichOneof("part") != "data":
            raise invalid("data", "required after the first message")
        contents += message.data
        if len(contents) > MOST_BYTES:
            raise KeyFileTooLarge(f"the file has more than {MOST_BYTES} bytes")
    return bytes(contents)
