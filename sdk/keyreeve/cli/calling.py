"""The client of a command, and the parsing of times, lifetimes and names."""

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from keyreeve import Client, Context
    from keyreeve.values import Name

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LIFETIME = re.compile(r"([1-9][0-9]{0,8})([dhms])")
_NAME_PREFIXES = ("dns", "ip", "uri", "email")


@contextmanager
def control_plane(context_file: Path | None, *, renew: bool = True) -> "Iterator[Client]":
    """Open a client of the context's control plane for the time of a command.

    With `renew`, the certificate that it calls with is renewed first, if that is due.
    """
    from keyreeve import Client
    from keyreeve.cli.client_certificate import explain_failure, renew_if_due
    from keyreeve.errors import KeyreeveError

    context = load_context(context_file)
    if renew:
        renew_if_due(context)
    with Client(context) as client:
        try:
            yield client
        except KeyreeveError as failure:
            raise explain_failure(context, failure) from None


def load_context(context_file: Path | None) -> "Context":
    """Load the context that the command names, or the nearest one.

    Raises `ContextInvalid`.
    """
    from keyreeve.context import Context

    return Context.load(context_file)


def read_lifetime(text: str | None) -> timedelta | None:
    """Parse `30d`, `12h`, `45m` or `90s`."""
    if text is None:
        return None
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is not a number and a unit, such as 30d, 12h, 45m or 90s", param_hint="--lifetime"
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def read_past(text: str | None) -> datetime | None:
    """Parse an RFC 3339 time, or a duration before now such as `30d`."""
    span = read_lifetime(text) if text is not None and _LIFETIME.fullmatch(text) else None
    return read_instant(text) if span is None else datetime.now(UTC) - span


def read_instant(text: str | None) -> datetime | None:
    """Parse an RFC 3339 time, or a duration from now such as `30d`.

    A time without a zone is in UTC.
    """
    if text is None:
        return None
    if _LIFETIME.fullmatch(text):
        span = read_lifetime(text)
        assert span is not None
        return datetime.now(UTC) + span
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a time such as 2031-05-04T12:00:00Z nor a duration such as 30d"
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def read_name(text: str) -> "Name":
    """Parse a subject alternative name: `type:value`, or a value alone.

    The type of a value is recognized; the default is DNS.
    """
    from keyreeve.values import Name, NameType

    prefix, colon, value = text.partition(":")
    if colon and prefix.lower() in _NAME_PREFIXES:
        return Name(NameType(prefix.lower()), value)
    try:
        return Name.ip(str(ipaddress.ip_address(text)))
    except ValueError:
        pass
    if "://" in text:
        return Name.uri(text)
    return Name.email(text) if "@" in text else Name.dns(text)
