"""Conversions that every servicer needs: names, ids, enums, durations and times."""

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve import errors
from keyreeve.identity import Caller
from keyreeve_chassis.guard.call import Call

K = TypeVar("K")
T = TypeVar("T")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


def caller_of(call: Call) -> Caller:
    """The caller. Access rules refuse calls without an identity, so there is one."""
    assert call.caller is not None, "no method of this service is open to anyone"
    return call.caller


def invalid(field: str, description: str) -> errors.KeyreeveError:
    """Build the refusal of one field."""
    return errors.FieldInvalid(f"{field}: {description}", violations=[errors.Violation(field, description)])


def request_id_of(text: str) -> str:
    """Check the id of a mutation."""
    if not _UUID.match(text):
        raise errors.RequestIdInvalid("request_id must be a UUID in lower case, such as uuidgen prints")
    return text


def payload_sha256(request: Message) -> bytes:
    """Hash a request, so that one id cannot stand for two payloads."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).digest()


def id_of(name: str, collection: str, field: str = "name") -> str:
    """The last segment of a resource name such as `authorities/{authority}`."""
    prefix, _, last = name.partition("/")
    if prefix != collection or not last or "/" in last or not last.isprintable():
        raise invalid(field, f"a name of the form {collection}/... is required")
    return last


def printable(text: str, field: str) -> str:
    """Return search text.

    Raises `FieldInvalid` for control characters, which no certificate and no database contains.
    """
    if not text.isprintable():
        raise invalid(field, "control characters are refused")
    return text


def chosen(values: Mapping[K, T], number: K, field: str) -> T:
    """The name of an enum value. Unknown and unspecified numbers are refused."""
    found = values.get(number)
    if found is None:
        raise invalid(field, "unspecified, or a value that this release does not know")
    return found


def duration_of(message: Duration, field: str) -> timedelta:
    """A positive duration in whole seconds, below ten thousand years."""
    if message.nanos or not 0 < message.seconds < 10_000 * 366 * 86_400:
        raise invalid(field, "a positive number of whole seconds is required")
    return timedelta(seconds=message.seconds)


def timestamp(seconds: int | None) -> Timestamp | None:
    """Seconds since 1970 as a Timestamp; None stays unset."""
    return None if seconds is None else Timestamp(seconds=seconds)


def number_of(values: Mapping[K, T], value: T) -> K:
    """The number of an enum value's name."""
    return next(number for number, known in values.items() if known == value)
