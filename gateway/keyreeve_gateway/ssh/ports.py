"""What the SSH server needs: a host key that is elsewhere, and sessions for proofs of SSH."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from keyreeve_gateway.sessions.ports import Session


@dataclass(frozen=True, slots=True)
class SshLogin:
    """What a client has signed to log in (RFC 4252, section 7)."""

    session_id: bytes
    user_name: str
    public_key: bytes
    """The key or certificate, as it was sent."""
    algorithm: str
    signature: bytes


class SshSessions(Protocol):
    """Opens sessions for logins."""

    def open_ssh(self, login: SshLogin, client_address: str) -> AbstractAsyncContextManager[Session]:
        """Open the session of the person who has logged in; leaving the context closes it.

        Raises `keyreeve.errors.KeyreeveError`.
        """


class HostKey(Protocol):
    """The key that all gateways present; its private half is elsewhere."""

    @property
    def algorithm(self) -> str:
        """Of its signatures, such as `ssh-ed25519`."""

    @property
    def public_key(self) -> bytes:
        """In the format of SSH (RFC 4253, section 6.6)."""

    async def sign_exchange_hash(self, exchange_hash: bytes) -> bytes:
        """Sign a key exchange; return the signature in the format of SSH. Raises `keyreeve.errors.KeyreeveError`."""
