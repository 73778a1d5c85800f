"""Private keys, requests, certificates and bundles of servers."""

from collections.abc import AsyncGenerator, Sequence

from keyreeve import file_wire
from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import key_file_service_pb2 as pb
from keyreeve.file_values import (
    FileContents,
    FileKeyType,
    FileSpace,
    Inspection,
    KeyFile,
    MadeFiles,
    RequestAttributes,
    Verification,
)
from keyreeve.plaintext import Plaintext
from keyreeve.request_ids import new_request_id
from keyreeve.wire_fields import to_number

_SERVICE = "/keyreeve.credentials.v1.KeyFileService"


class KeyFileClient:
    """The file spaces of servers; reached as `Client.credentials.files`.

    A file is named by its space and its name in it. With `replace`, existing files are replaced and kept under other
    names; with `force`, keys that are in use, too. Every method raises `keyreeve.errors` and takes a `timeout` in seconds
    over all its attempts.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def put(
        self,
        space: FileSpace,
        file: str,
        contents: Plaintext,
        *,
        replace: bool = False,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> KeyFile:
        """Store a file of at most 1 MiB."""
        header = pb.FileHeader(
            name=file_wire.file_name(space, file),
            replace=replace,
            force=force,
            request_id=request_id or new_request_id(),
        )
        parts = list(file_wire.to_parts(header, contents.reveal()))
        return file_wire.from_file(await self._caller.upload(f"{_SERVICE}/PutFile", parts, pb.KeyFile, timeout))

    async def get(
        self, space: FileSpace, file: str, *, purpose: str = "", timeout: float | None = None
    ) -> FileContents:
        """Read a file; a private key needs a purpose, which is audited with the read."""
        request = pb.GetFileRequest(name=file_wire.file_name(space, file), purpose=purpose)
        first, *parts = await self._caller.download(f"{_SERVICE}/GetFile", request, pb.GetFileResponse, timeout)
        return FileContents(file_wire.from_file(first.file), Plaintext(b"".join(part.data for part in parts)))

    async def list(
        self, space: FileSpace, *, page_size: int = 150, timeout: float | None = None
    ) -> AsyncGenerator[KeyFile, None]:
        """Iterate over files in order of their names; `timeout` is for each page."""
        request = pb.ListFilesRequest(parent=file_wire.space_name(space), page_size=page_size)
        while True:
            page = await self._caller.unary(f"{_SERVICE}/ListFiles", request, pb.ListFilesResponse, timeout)
            for message in page.files:
                yield file_wire.from_file(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def rename(
        self,
        space: FileSpace,
        file: str,
        new_name: str,
        *,
        replace: bool = False,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> KeyFile:
        """Rename a file."""
        request = pb.RenameFileRequest(
            name=file_wire.file_name(space, file),
            new_name=new_name,
            replace=replace,
            force=force,
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_file(await self._caller.unary(f"{_SERVICE}/RenameFile", request, pb.KeyFile, timeout))

    async def delete(
        self,
        space: FileSpace,
        file: str,
        *,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a file."""
        request = pb.DeleteFileRequest(
            name=file_wire.file_name(space, file), force=force, request_id=request_id or new_request_id()
        )
        await self._caller.unary(f"{_SERVICE}/DeleteFile", request, pb.DeleteFileResponse, timeout)

    async def assign(
        self,
        space: FileSpace,
        service: str,
        files: Sequence[str],
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> tuple[KeyFile, ...]:
        """Record which files a service of the server uses, instead of those so far."""
        request = pb.AssignFilesRequest(
            parent=file_wire.space_name(space),
            service=service,
            files=files,
            request_id=request_id or new_request_id(),
        )
        done = await self._caller.unary(f"{_SERVICE}/AssignFiles", request, pb.AssignFilesResponse, timeout)
        return tuple(file_wire.from_file(message) for message in done.files)

    async def create_request(
        self,
        space: FileSpace,
        basename: str,
        attributes: RequestAttributes,
        *,
        key_type: FileKeyType = FileKeyType.RSA2048,
        replace: bool = False,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> MadeFiles:
        """Make a key and a certificate signing request."""
        request = pb.CreateRequestRequest(
            parent=file_wire.space_name(space),
            basename=basename,
            attributes=file_wire.to_attributes(attributes),
            key_type=to_number(file_wire.KEY_TYPES, key_type, "key_type"),
            replace=replace,
            force=force,
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_made(
            await self._caller.unary(f"{_SERVICE}/CreateRequest", request, pb.MadeFiles, timeout)
        )

    async def create_self_signed(
        self,
        space: FileSpace,
        basename: str,
        attributes: RequestAttributes,
        *,
        key_type: FileKeyType = FileKeyType.RSA2048,
        days: int = 0,
        replace: bool = False,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> MadeFiles:
        """Make a key and a certificate that is signed by it; 0 days are the service's default."""
        request = pb.CreateSelfSignedRequest(
            parent=file_wire.space_name(space),
            basename=basename,
            attributes=file_wire.to_attributes(attributes),
            key_type=to_number(file_wire.KEY_TYPES, key_type, "key_type"),
            days=days,
            replace=replace,
            force=force,
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_made(
            await self._caller.unary(f"{_SERVICE}/CreateSelfSigned", request, pb.MadeFiles, timeout)
        )

    async def sign_request(
        self,
        space: FileSpace,
        basename: str,
        ca_basename: str,
        *,
        days: int = 0,
        replace: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> MadeFiles:
        """Sign a request with a CA's key and certificate of the same space; 0 days are the service's default."""
        request = pb.SignRequestRequest(
            parent=file_wire.space_name(space),
            basename=basename,
            ca_basename=ca_basename,
            days=days,
            replace=replace,
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_made(await self._caller.unary(f"{_SERVICE}/SignRequest", request, pb.MadeFiles, timeout))

    async def inspect(self, space: FileSpace, file: str, *, timeout: float | None = None) -> Inspection:
        """Tell what a file contains."""
        request = pb.InspectFileRequest(name=file_wire.file_name(space, file))
        return file_wire.from_inspection(
            await self._caller.unary(f"{_SERVICE}/InspectFile", request, pb.InspectFileResponse, timeout)
        )

    async def match(self, space: FileSpace, key: str, certificate: str, *, timeout: float | None = None) -> bool:
        """Whether a key and the first certificate of a file match."""
        request = pb.MatchFilesRequest(parent=file_wire.space_name(space), key=key, certificate=certificate)
        done = await self._caller.unary(f"{_SERVICE}/MatchFiles", request, pb.MatchFilesResponse, timeout)
        return done.matches

    async def verify(
        self, space: FileSpace, certificate: str, bundle: str, root: str = "", *, timeout: float | None = None
    ) -> Verification:
        """Whether a bundle asserts the first certificate of a file."""
        request = pb.VerifyFileRequest(
            parent=file_wire.space_name(space), certificate=certificate, bundle=bundle, root=root
        )
        return file_wire.from_verification(
            await self._caller.unary(f"{_SERVICE}/VerifyFile", request, pb.VerifyFileResponse, timeout)
        )

    async def unlock(
        self,
        space: FileSpace,
        file: str,
        passphrase: Plaintext,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> KeyFile:
        """Replace a locked key by the same key without a passphrase."""
        request = pb.UnlockKeyRequest(
            name=file_wire.file_name(space, file),
            passphrase=passphrase.reveal(),
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_file(await self._caller.unary(f"{_SERVICE}/UnlockKey", request, pb.KeyFile, timeout))

    async def convert_pkcs12(
        self,
        space: FileSpace,
        file: str,
        passphrase: Plaintext,
        basename: str,
        *,
        replace: bool = False,
        force: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> MadeFiles:
        """Take a PKCS#12 apart."""
        request = pb.ConvertPkcs12Request(
            name=file_wire.file_name(space, file),
            passphrase=passphrase.reveal(),
            basename=basename,
            replace=replace,
            force=force,
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_made(
            await self._caller.unary(f"{_SERVICE}/ConvertPkcs12", request, pb.MadeFiles, timeout)
        )

    async def export_pkcs12(
        self,
        space: FileSpace,
        key: str,
        certificate: str,
        file: str,
        passphrase: Plaintext,
        *,
        bundle: str = "",
        alias: str = "",
        legacy: bool = False,
        replace: bool = False,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> MadeFiles:
        """Store a key and its certificates as a PKCS#12; `legacy` is for programs from before about 2018."""
        request = pb.ExportPkcs12Request(
            parent=file_wire.space_name(space),
            key=key,
            certificate=certificate,
            bundle=bundle,
            passphrase=passphrase.reveal(),
            file=file,
            alias=alias,
            legacy=legacy,
            replace=replace,
            request_id=request_id or new_request_id(),
        )
        return file_wire.from_made(await self._caller.unary(f"{_SERVICE}/ExportPkcs12", request, pb.MadeFiles, timeout))
