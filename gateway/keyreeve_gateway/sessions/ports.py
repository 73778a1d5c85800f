"""Sessions as the ways in see them."""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Protocol

from keyreeve_gateway.ports import Services

if TYPE_CHECKING:
    from keyreeve.errors import KeyreeveError
    from keyreeve.session_values import CertificateProof


class Session(Protocol):
    """An operator's session."""

    @property
    def identity(self) -> str:
        """SPIFFE ID of the operator."""

    @property
    def services(self) -> Services:
        """What is called here is called on behalf of the operator."""

    async def wait_closed(self) -> "KeyreeveError":
        """Wait until the session is over before its end; return why."""

    async def append_record(self, verb: str, code: str, reason: str) -> None:
        """Append the audit record of a verb that has ended. Raises `keyreeve.errors.KeyreeveError`."""


class Sessions(Protocol):
    """Opens sessions."""

    def open(self, proof: "CertificateProof", client_address: str) -> AbstractAsyncContextManager[Session]:
        """Open the session of the operator who made the proof; leaving the context closes it.

        Raises `keyreeve.errors.KeyreeveError`.
        """
