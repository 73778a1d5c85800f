"""What makes a request unreadable whatever its method: bytes that do not parse, unknown fields, unknown enum numbers.

Protocol Buffers keep what they do not know. A service that decides about rights must not: a field that a newer client
sent to narrow a request, or a number that a newer contract gave a meaning, would be ignored in silence.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from keyreeve.errors import FieldInvalid, Violation

Found = Any
"""A message or a number in one: their types are known to the descriptor only."""
Check = Callable[[Found, str], None]
"""Looks at a message found under a path (empty for the request itself) and raises `FieldInvalid`."""


def parser(descriptor: Descriptor, *, strict: bool = True) -> Callable[[bytes], Message]:
    """Return the parser of one request type. It raises `FieldInvalid`.

    `strict` also refuses fields and enum numbers that this release does not know.
    """
    make = GetMessageClass(descriptor).FromString
    check = enum_check(descriptor) if strict else None

    def parse(data: bytes) -> Message:
        try:
            message = make(data)
        except DecodeError:
            raise FieldInvalid(f"the bytes of the request are not a {descriptor.full_name}") from None
        if strict:
            # Not compared with the request's own length: there are several encodings of one message.
            size = message.ByteSize()
            message.DiscardUnknownFields()
            if message.ByteSize() != size:
                raise FieldInvalid(
                    f"the request holds fields that this release of {descriptor.full_name} does not have; "
                    "the client is newer than the service"
                )
            if check is not None:
                check(message, "")
        return message

    return parse


def enum_check(descriptor: Descriptor) -> Check | None:
    """Return a check that every enum number in a message has a name, or None when the type reaches no enum."""
    return _compile(descriptor, {}) if _reaches_enum(descriptor, set()) else None


def _unknown_number(enum: EnumDescriptor, number: int, field: str) -> FieldInvalid:
    names = ", ".join(value.name for value in enum.values if value.number != 0)
    text = f"{number} is not a value of {enum.name}: {names}"
    return FieldInvalid(f"{field}: {text}", violations=[Violation(field, text)])


def _reaches_enum(descriptor: Descriptor, seen: set[str]) -> bool:
    if descriptor.full_name in seen:
        return False
    seen.add(descriptor.full_name)
    return any(
        field.enum_type is not None or (field.message_type is not None and _reaches_enum(field.message_type, seen))
        for field in descriptor.fields
    )


def _compile(descriptor: Descriptor, known: dict[str, list[Check]]) -> Check:
    """Build the check of one message type; `known` breaks the recursion of nested types."""
    steps = known.get(descriptor.full_name)
    if steps is None:
        steps = known[descriptor.full_name] = []
        for field in descriptor.fields:
            step = _field_step(field, known)
            if step is not None:
                steps.append(step)

    def check(message: Found, path: str) -> None:
        for step in steps:
            step(message, path)

    return check


def _field_step(field: FieldDescriptor, known: dict[str, list[Check]]) -> Check | None:
    name = field.name
    entry = field.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    one = _value_check(entry.fields_by_name["value"] if entry is not None and is_map else field, known)
    if one is None:
        return None
    if is_map:

        def step(message: Found, path: str) -> None:
            for key, item in getattr(message, name).items():
                one(item, f"{path}{name}[{key!r}]")

    elif field.is_repeated:

        def step(message: Found, path: str) -> None:
            for index, item in enumerate(getattr(message, name)):
                one(item, f"{path}{name}[{index}]")

    elif field.enum_type is not None:

        def step(message: Found, path: str) -> None:
            one(getattr(message, name), f"{path}{name}")

    else:

        def step(message: Found, path: str) -> None:
            if message.HasField(name):
                one(getattr(message, name), f"{path}{name}")

    return step


def _value_check(field: FieldDescriptor, known: dict[str, list[Check]]) -> Check | None:
    enum = field.enum_type
    if enum is not None:
        numbers = frozenset(enum.values_by_number)

        def check_number(number: Found, path: str) -> None:
            if number not in numbers:
                raise _unknown_number(enum, number, path)

        return check_number
    if field.message_type is None or not _reaches_enum(field.message_type, set()):
        return None
    inner = _compile(field.message_type, known)
    return lambda message, path: inner(message, f"{path}.")
