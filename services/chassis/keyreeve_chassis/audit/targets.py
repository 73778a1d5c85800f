"""What an audit record keeps of a request: the fields that the method's row lists, and no others."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from keyreeve.audit.record import Pairs, clean

MOST_VALUES = 200
"""Of one request."""
STANDARD = ("name", "parent")
_HEX_BYTES = 32

Targets = Callable[[Message], tuple[str, Pairs]]
"""The request's own id, and (path, value) for each field that it sets."""
_Read = Callable[[Any], Iterator[str]]


def targets_of(request: Descriptor, paths: Sequence[str]) -> Targets:
    """Make the reader for one method. Raises `LookupError` for a path that the request does not have."""
    chosen = [p for p in paths if p in request.fields_by_name] if tuple(paths) == STANDARD else paths
    readers = [(path, _reader(request, path.split("."), path)) for path in chosen]
    has_id = "request_id" in request.fields_by_name

    def read(message: Any) -> tuple[str, Pairs]:  # noqa: ANN401  # any request
        found: dict[tuple[str, str], None] = {}
        for path, reader in readers:
            for value in reader(message):
                if value and len(found) < MOST_VALUES:
                    found[path, clean(value)] = None
        return clean(message.request_id) if has_id else "", tuple(found)

    return read


def _reader(message: Descriptor, path: Sequence[str], whole: str) -> _Read:
    field = message.fields_by_name.get(path[0])
    if field is None:
        raise LookupError(f"{whole} is to be recorded, and {message.full_name} has no {path[0]}")
    show = _shown(field, path, whole)
    name = field.name
    if field.is_repeated:
        return lambda m: (text for each in getattr(m, name) for text in show(each))
    if field.message_type is not None:
        return lambda m: show(getattr(m, name)) if m.HasField(name) else iter(())
    return lambda m: show(getattr(m, name))


def _shown(field: FieldDescriptor, path: Sequence[str], whole: str) -> _Read:
    if field.message_type is not None:
        if len(path) == 1:
            raise LookupError(f"{whole} is a message: name the fields of it that are to be recorded")
        return _reader(field.message_type, path[1:], whole)
    if len(path) > 1:
        raise LookupError(f"{whole} goes on behind a plain value")
    if field.enum_type is not None:
        names = field.enum_type.values_by_number
        return lambda v: iter((names[v].name if v in names else str(v),) if v else ())
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda v: iter((v[:_HEX_BYTES].hex(),))
    if field.type == FieldDescriptor.TYPE_STRING:
        return lambda v: iter((v,))
    return lambda v: iter((str(v),) if v else ())
