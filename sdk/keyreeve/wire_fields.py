"""Translation of fields that messages of every service have.

Apart from `keyreeve.wire`, which loads the messages of the whole CA service.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.errors import FieldInvalid, KeyreeveError, Violation

Choice = TypeVar("Choice", bound=StrEnum)
Number = TypeVar("Number", bound=int)


def from_number(table: Mapping[Choice, Number], number: Number) -> Choice:
    """Translate a number of an enumeration.

    Raises `keyreeve.errors.KeyreeveError` for one of a newer release.
    """
    for choice, known in table.items():
        if known == number:
            return choice
    kind = type(next(iter(table))).__name__
    raise KeyreeveError(f"the service sent {kind} {number}, which this release does not know: upgrade the client")


def resource_name(collection: str, text: str) -> str:
    """Return the full name of a resource that may be given by its last part.

    `web` stands for `profiles/web`.
    """
    return text if text.startswith(f"{collection}/") else f"{collection}/{text}"


def to_timestamp(time: datetime | None, field: str) -> Timestamp | None:
    """Translate a time.

    Raises `keyreeve.errors.FieldInvalid` for one without a time zone.
    """
    if time is None:
        return None
    if time.tzinfo is None:
        raise FieldInvalid(
            f"{field}: {time.isoformat()} has no time zone", violations=[Violation(field, "no time zone")]
        )
    message = Timestamp()
    message.FromDatetime(time)
    return message


def to_number(table: Mapping[Choice, Number], choice: Choice, field: str) -> Number:
    """Translate a value of an enumeration.

    Raises `keyreeve.errors.FieldInvalid` for one that the field does not allow.
    """
    if choice not in table:
        text = f"{str(choice)!r} is not one of {', '.join(table)}"
        raise FieldInvalid(f"{field}: {text}", violations=[Violation(field, text)])
    return table[choice]
