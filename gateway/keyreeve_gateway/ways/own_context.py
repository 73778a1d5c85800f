"""A client with the caller's own context and certificate."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from keyreeve.errors import ContextInvalid, KeyreeveError
from keyreeve_gateway.ports import Console

if TYPE_CHECKING:
    from keyreeve.aio import Client
    from keyreeve.context import Context
    from keyreeve.identity import SpiffeId


@asynccontextmanager
async def own_client(context: "Context", console: Console) -> "AsyncIterator[Client]":
    """Open the client of a context, after its certificate has been renewed if that is due."""
    from keyreeve._async.client import Client

    async with Client(context) as client:
        await _renew_if_due(context, client, console)
        yield client


async def _renew_if_due(context: "Context", client: "Client", console: Console) -> None:
    """Renew an operator's certificate; a failure is no failure of the command."""
    from cryptography import x509

    try:
        leaf = x509.load_pem_x509_certificate(context.certificate.read_bytes())
    except (OSError, ValueError):
        return  # the first call says what is wrong with the file
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if not begin + (end - begin) * 2 / 3 <= time.time() < end:
        return
    from keyreeve._async.identity_renewal import IdentityRenewal

    try:
        await IdentityRenewal(context, client).renew_when_due()
    except KeyreeveError as failure:
        console.warn(f"note: your certificate could not be renewed: {failure.message}")


def local_server(context: "Context", host: str) -> str:
    """Peer DNS name of this server: that of the member whose certificate is used, or the host's name."""
    identity = _identity(context)
    return identity.path[1] if identity is not None and identity.path[0] == "members" else host


def is_operators(context: "Context") -> bool:
    """Whether a context's certificate is an operator's. Raises `ContextInvalid`."""
    identity = _identity(context)
    return identity is not None and identity.path[0] == "operators"


def _identity(context: "Context") -> "SpiffeId | None":
    """The identity in a context's certificate, if it has one. Raises `ContextInvalid`."""
    from cryptography import x509

    from keyreeve.identity import SpiffeId

    try:
        leaf = x509.load_pem_x509_certificate(context.certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        [uri] = names.get_values_for_type(x509.UniformResourceIdentifier)
        return SpiffeId.parse(uri)
    except OSError as problem:
        raise ContextInvalid(f"cannot read {context.certificate}: {problem.strerror}") from None
    except (ValueError, x509.ExtensionNotFound):
        return None
