"""Messages of KeyFileService to values and back."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.credentials.v1 import key_file_service_pb2 as pb
from keyreeve_chassis.guard.call import invalid, timestamp
from keyreeve_credentials.entries.servicer import deleted_text, row_text
from keyreeve_credentials.key_documents.attributes import Attributes
from keyreeve_credentials.key_documents.contents import Element
from keyreeve_credentials.key_documents.making import KeyChoice
from keyreeve_credentials.key_files.file_names import parse_file_name
from keyreeve_credentials.key_files.ports import FILE_ROW, Space, StoredFile
from keyreeve_credentials.key_files.service import Written
from keyreeve_credentials.launch_settings.service import parse_server

_SPACE = re.compile(r"arrays/([A-Za-z0-9][A-Za-z0-9._-]{0,62})/servers/([^/]+)\Z")
_SERVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
KEY_CHOICES: Final = {
    pb.FILE_KEY_TYPE_UNSPECIFIED: KeyChoice.RSA_2048,
    pb.FILE_KEY_TYPE_RSA2048: KeyChoice.RSA_2048,
    pb.FILE_KEY_TYPE_RSA3072: KeyChoice.RSA_3072,
    pb.FILE_KEY_TYPE_RSA4096: KeyChoice.RSA_4096,
    pb.FILE_KEY_TYPE_P256: KeyChoice.P256,
    pb.FILE_KEY_TYPE_P384: KeyChoice.P384,
}


def space_of(name: str, field: str = "parent") -> Space:
    """The file space `arrays/{array}/servers/{server}`. Raises `FieldInvalid`."""
    found = _SPACE.match(name)
    if found is None:
        raise invalid(field, "a name of the form arrays/.../servers/... is required")
    return Space(found[1], parse_server(found[2], field))


def file_of(name: str, field: str = "name") -> tuple[Space, str]:
    """Space and name of `arrays/{array}/servers/{server}/files/{file}`. Raises `FieldInvalid`."""
    parent, separator, file = name.partition("/files/")
    if not separator:
        raise invalid(field, "a name of the form arrays/.../servers/.../files/... is required")
    return space_of(parent, field), parse_file_name(file, field)


def token_of(text: str, field: str) -> str:
    """Check the name of a service. Raises `FieldInvalid`."""
    if not _SERVICE_NAME.match(text):
        raise invalid(field, "1-63 lower-case letters, digits and hyphens are required")
    return text


def attributes_of(message: pb.RequestAttributes) -> Attributes:
    """The attributes of a subject."""
    return Attributes(
        message.common_name,
        message.organizational_unit,
        message.organization,
        message.locality,
        message.state,
        message.country,
        message.email_address,
        tuple(message.names),
    )


def file_message(stored: StoredFile, uses: Mapping[str, Sequence[str]]) -> pb.KeyFile:
    """A file as a message, without its contents."""
    return pb.KeyFile(
        name=stored.resource_name,
        size=stored.size,
        holds_private_key=stored.holds_private_key,
        used_by=uses.get(stored.name, ()),
        version=stored.version,
        create_time=timestamp(stored.created_at),
        update_time=timestamp(stored.updated_at),
    )


def made_message(written: Written, uses: Mapping[str, Sequence[str]], warnings: Sequence[str] = ()) -> pb.MadeFiles:
    """New files as a message."""
    return pb.MadeFiles(
        files=[file_message(stored, uses) for stored in written.files],
        kept_files=[file_message(stored, uses) for stored in written.kept],
        warnings=warnings,
    )


def written_results(made: pb.MadeFiles) -> list[tuple[str, str]]:
    """What the audit record of a write says."""
    return [("file", one.name) for one in made.files] + [("kept", one.name) for one in made.kept_files]


def row_results(written: Written) -> list[tuple[str, str]]:
    """What the audit record of a write says of the rows: the scrubber compares the table with it."""
    gone = [(FILE_ROW, deleted_text(name)) for name in written.moved]
    return gone + [
        (FILE_ROW, row_text(stored.resource_name, stored.encryption, stored.row_sha256()))
        for stored in (*written.kept, *written.files)
    ]


def element_message(element: Element) -> pb.FileElement:
    """An element of a file as a message."""
    return pb.FileElement(
        kind=element.kind.value,
        encoding=element.encoding.value,
        key_type=element.key_type,
        spki_sha256=element.spki_sha256,
        subject=element.subject,
        issuer=element.issuer,
        serial=element.serial,
        not_before_time=_time(element.not_before),
        not_after_time=_time(element.not_after),
        names=element.names,
        is_ca=element.is_ca,
        sha256=element.sha256,
    )


def _time(when: datetime | None) -> Timestamp | None:
    return None if when is None else Timestamp(seconds=int(when.timestamp()))
