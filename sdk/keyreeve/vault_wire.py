"""Translation between the messages of the credentials service and the values of the SDK."""

from datetime import UTC
from typing import Final

from keyreeve import vault_values, wire
from keyreeve.credentials.v1 import entry_service_pb2 as entry_pb

KINDS: Final = {
    vault_values.EntryKind.PASSWORD: entry_pb.ENTRY_KIND_PASSWORD,
    vault_values.EntryKind.SMART_CARD: entry_pb.ENTRY_KIND_SMART_CARD,
}
SOURCES: Final = {
    vault_values.EntrySource.CALL: entry_pb.ENTRY_SOURCE_CALL,
    vault_values.EntrySource.DIALOG: entry_pb.ENTRY_SOURCE_DIALOG,
    vault_values.EntrySource.IMPORT: entry_pb.ENTRY_SOURCE_IMPORT,
}


def from_entry(message: entry_pb.Entry) -> vault_values.Entry:
    """Translate an entry."""
    return vault_values.Entry(
        name=message.name,
        owner=message.owner,
        resource=message.resource,
        user_name=message.user_name,
        kind=wire.from_number(KINDS, message.kind),
        source=wire.from_number(SOURCES, message.source),
        version=message.version,
        encryption=message.encryption,
        row_sha256=message.row_sha256,
        key=message.key,
        created_at=message.create_time.ToDatetime(UTC),
        updated_at=message.update_time.ToDatetime(UTC),
    )
