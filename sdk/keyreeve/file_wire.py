"""Translation between messages about key files and the values of the SDK."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import file_values as values
from keyreeve.credentials.v1 import key_file_service_pb2 as pb
from keyreeve.wire_fields import resource_name

KEY_TYPES: Final = {
    values.FileKeyType.RSA2048: pb.FILE_KEY_TYPE_RSA2048,
    values.FileKeyType.RSA3072: pb.FILE_KEY_TYPE_RSA3072,
    values.FileKeyType.RSA4096: pb.FILE_KEY_TYPE_RSA4096,
    values.FileKeyType.P256: pb.FILE_KEY_TYPE_P256,
    values.FileKeyType.P384: pb.FILE_KEY_TYPE_P384,
}
CHUNK: Final = 64 * 1024


def space_name(space: values.FileSpace) -> str:
    """The resource name of a file space."""
    return f"{resource_name('arrays', space.array)}/servers/{space.server}"


def file_name(space: values.FileSpace, file: str) -> str:
    """The resource name of a file."""
    return f"{space_name(space)}/files/{file}"


def to_parts(header: pb.FileHeader, contents: bytes) -> Iterator[pb.PutFileRequest]:
    """The messages of an upload."""
    yield pb.PutFileRequest(header=header)
    for start in range(0, len(contents), CHUNK):
        yield pb.PutFileRequest(data=contents[start : start + CHUNK])


def to_attributes(attributes: values.RequestAttributes) -> pb.RequestAttributes:
    """Translate the attributes of a subject."""
    return pb.RequestAttributes(
        common_name=attributes.common_name,
        organizational_unit=attributes.organizational_unit,
        organization=attributes.organization,
        locality=attributes.locality,
        state=attributes.state,
        country=attributes.country,
        email_address=attributes.email_address,
        names=attributes.names,
    )


def from_file(message: pb.KeyFile) -> values.KeyFile:
    """Translate a file."""
    return values.KeyFile(
        name=message.name,
        size=message.size,
        holds_private_key=message.holds_private_key,
        used_by=tuple(message.used_by),
        version=message.version,
        created_at=message.create_time.ToDatetime(UTC),
        updated_at=message.update_time.ToDatetime(UTC),
    )


def from_made(message: pb.MadeFiles) -> values.MadeFiles:
    """Translate files that were made."""
    return values.MadeFiles(
        tuple(map(from_file, message.files)), tuple(map(from_file, message.kept_files)), tuple(message.warnings)
    )


def from_inspection(message: pb.InspectFileResponse) -> values.Inspection:
    """Translate what a file contains."""
    return values.Inspection(
        from_file(message.file), tuple(map(_from_element, message.elements)), tuple(message.warnings)
    )


def from_verification(message: pb.VerifyFileResponse) -> values.Verification:
    """Translate whether a bundle asserts a certificate."""
    return values.Verification(message.verified, tuple(message.chain), tuple(message.problems), tuple(message.warnings))


def _from_element(message: pb.FileElement) -> values.FileElement:
    return values.FileElement(
        kind=message.kind,
        encoding=message.encoding,
        key_type=message.key_type,
        spki_sha256=message.spki_sha256,
        subject=message.subject,
        issuer=message.issuer,
        serial=message.serial,
        not_before=_time(message.not_before_time) if message.HasField("not_before_time") else None,
        not_after=_time(message.not_after_time) if message.HasField("not_after_time") else None,
        names=tuple(message.names),
        is_ca=message.is_ca,
        sha256=message.sha256,
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(UTC)
