"""Revocation reasons on the command line, in all their spellings."""

from collections.abc import Sequence
from typing import Annotated

import typer

_LEAF = (
    "unspecified",
    "key_compromise",
    "affiliation_changed",
    "superseded",
    "cessation_of_operation",
    "privilege_withdrawn",
)
_AUTHORITY = ("ca_compromise", "superseded", "cessation_of_operation")


def read_leaf_reason(text: str) -> str:
    """Parse the reason for a leaf certificate into a value of `CrlReason`.

    Raises `typer.BadParameter`.
    """
    return _read(text, _LEAF)


def read_authority_reason(text: str) -> str:
    """Parse the reason for an authority into a value of `CrlReason`.

    Raises `typer.BadParameter`.
    """
    return _read(text, _AUTHORITY)


def _read(text: str, known: Sequence[str]) -> str:
    """Accept `keyCompromise`, `key-compromise` and `key_compromise`.

    The first one is the spelling of RFC 5280, section 5.3.1, and of OpenSSL.
    """
    plain = text.replace("-", "").replace("_", "").casefold()
    for reason in known:
        if reason.replace("_", "") == plain:
            return reason
    raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(_camel_case, known))}")


def _camel_case(reason: str) -> str:
    if reason == "ca_compromise":
        return "cACompromise"
    first, *rest = reason.split("_")
    return "".join((first, *(word.capitalize() for word in rest)))


_HELP = "Reason (RFC 5280, 5.3.1): {}. Also spelled key-compromise or key_compromise. The first reason stays."

LeafReason = Annotated[
    str,
    typer.Option(
        "--reason", parser=read_leaf_reason, metavar="REASON", help=_HELP.format(", ".join(map(_camel_case, _LEAF)))
    ),
]
AuthorityReason = Annotated[
    str,
    typer.Option(
        "--reason",
        parser=read_authority_reason,
        metavar="REASON",
        help=_HELP.format(", ".join(map(_camel_case, _AUTHORITY))),
    ),
]
