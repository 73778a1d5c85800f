"""File spaces of servers in memory, with the vault's own rules about keys, requests and certificates."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from keyreeve.credentials.v1 import key_file_service_pb2 as pb
from keyreeve.errors import KeyFileNotFound
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.key_documents import containers, contents, making, matching
from keyreeve_credentials.key_files.file_names import parse_basename
from keyreeve_credentials.key_files.messages import attributes_of, element_message, file_of, space_of
from keyreeve_credentials.key_files.replacing import replace_files
from keyreeve_credentials.key_files.workshop import random_serial

Files = dict[str, bytes]


@dataclass
class LegacyFiles:
    """Handlers of KeyFileService."""

    spaces: dict[str, Files] = field(default_factory=dict)
    used: dict[str, dict[str, str]] = field(default_factory=dict)
    """Services that use a file, by space and name."""

    def CreateRequest(self, request: pb.CreateRequestRequest) -> pb.MadeFiles:  # noqa: N802
        made = making.create_request(attributes_of(request.attributes), making.KeyChoice.RSA_2048)
        return self._make(request, {".key": made.key_pem, ".csr": made.document_pem}, made.warnings)

    def CreateSelfSigned(self, request: pb.CreateSelfSignedRequest) -> pb.MadeFiles:  # noqa: N802
        terms = self._terms(making.SELF_SIGNED_DAYS)
        made = making.create_self_signed(attributes_of(request.attributes), making.KeyChoice.RSA_2048, terms)
        return self._make(request, {".key": made.key_pem, ".crt": made.document_pem}, made.warnings)

    def SignRequest(self, request: pb.SignRequestRequest) -> pb.MadeFiles:  # noqa: N802
        csr, crt, key = (
            self._read(request.parent, name)
            for name in (f"{request.basename}.csr", f"{request.ca_basename}.crt", f"{request.ca_basename}.key")
        )
        signed = making.sign_request(
            contents.load_request(csr),
            contents.load_certificates(crt)[0],
            contents.load_private_key(key),
            self._terms(making.SIGNED_DAYS),
        )
        return self._make(request, {".crt": signed}, ())

    def ListFiles(self, request: pb.ListFilesRequest) -> pb.ListFilesResponse:  # noqa: N802
        files = self.spaces.get(request.parent, {})
        return pb.ListFilesResponse(files=[self._message(request.parent, name) for name in sorted(files)])

    def InspectFile(self, request: pb.InspectFileRequest) -> pb.InspectFileResponse:  # noqa: N802
        parent, _, name = request.name.partition("/files/")
        data = self._read(parent, name)
        elements = contents.inspect_file(data)
        return pb.InspectFileResponse(
            file=self._message(parent, name),
            elements=[element_message(one) for one in elements],
            warnings=matching.bundle_warnings(data) if any(one.kind.value == "certificate" for one in elements) else (),
        )

    def MatchFiles(self, request: pb.MatchFilesRequest) -> pb.MatchFilesResponse:  # noqa: N802
        key, certificate = (self._read(request.parent, name) for name in (request.key, request.certificate))
        return pb.MatchFilesResponse(matches=matching.key_matches(key, certificate))

    def VerifyFile(self, request: pb.VerifyFileRequest) -> pb.VerifyFileResponse:  # noqa: N802
        certificate, bundle = (self._read(request.parent, name) for name in (request.certificate, request.bundle))
        root = self._read(request.parent, request.root) if request.root else None
        found = matching.verify_file(certificate, bundle, root, datetime.now(UTC))
        return pb.VerifyFileResponse(
            verified=found.verified, chain=found.chain, problems=found.problems, warnings=found.warnings
        )

    def UnlockKey(self, request: pb.UnlockKeyRequest) -> pb.KeyFile:  # noqa: N802
        parent, _, name = request.name.partition("/files/")
        unlocked = containers.unlock_key(self._read(parent, name), Plaintext(request.passphrase))
        self.spaces[parent][name] = unlocked
        return self._message(parent, name)

    def ConvertPkcs12(self, request: pb.ConvertPkcs12Request) -> pb.MadeFiles:  # noqa: N802
        parent, _, name = request.name.partition("/files/")
        found = containers.convert_pkcs12(self._read(parent, name), Plaintext(request.passphrase))
        new = {".key": found.key_pem, ".crt": found.certificate_pem}
        return self._write(parent, {f"{request.basename}{end}": data for end, data in new.items()}, request)

    def GetFile(self, request: pb.GetFileRequest) -> list[pb.GetFileResponse]:  # noqa: N802
        parent, _, name = request.name.partition("/files/")
        data = self._read(parent, name)
        return [pb.GetFileResponse(file=self._message(parent, name)), pb.GetFileResponse(data=data)]

    def PutFile(self, requests: list[pb.PutFileRequest]) -> pb.KeyFile:  # noqa: N802
        header, data = requests[0].header, b"".join(one.data for one in requests[1:])
        parent, _, name = header.name.partition("/files/")
        return self._write(parent, {name: data}, header).files[0]

    def DeleteFile(self, request: pb.DeleteFileRequest) -> pb.DeleteFileResponse:  # noqa: N802
        parent, _, name = request.name.partition("/files/")
        self._read(parent, name)
        del self.spaces[parent][name]
        return pb.DeleteFileResponse()

    def RenameFile(self, request: pb.RenameFileRequest) -> pb.KeyFile:  # noqa: N802
        parent, _, name = request.name.partition("/files/")
        self.spaces[parent][request.new_name] = self._read(parent, name)
        del self.spaces[parent][name]
        return self._message(parent, request.new_name)

    def _make(self, request: Any, new: Mapping[str, bytes], warnings: Any) -> pb.MadeFiles:
        basename = parse_basename(request.basename)
        made = self._write(request.parent, {f"{basename}{end}": data for end, data in new.items()}, request)
        made.warnings.extend(warnings)
        return made

    def _write(self, parent: str, new: Mapping[str, bytes], request: Any) -> pb.MadeFiles:
        space_of(parent)
        files = self.spaces.setdefault(parent, {})
        force = getattr(request, "force", False)
        moved = replace_files(new, files, self.used.get(parent, {}), replace=request.replace, force=force).kept
        files.update({kept: files.pop(name) for name, kept in moved.items()})
        files.update(new)
        return pb.MadeFiles(
            files=[self._message(parent, name) for name in new],
            kept_files=[self._message(parent, name) for name in moved.values()],
        )

    def _read(self, parent: str, name: str) -> bytes:
        space, file = file_of(f"{parent}/files/{name}")
        if file not in self.spaces.get(parent, {}):
            raise KeyFileNotFound(f"the server {space.server} of the array {space.array_id} has no file {file}")
        return self.spaces[parent][file]

    def _message(self, parent: str, name: str) -> pb.KeyFile:
        return pb.KeyFile(name=f"{parent}/files/{name}", size=len(self.spaces[parent][name]), version=1)

    def _terms(self, days: int) -> making.Terms:
        return making.Terms(datetime.now(UTC), days, random_serial)
