"""Kubernetes evidence: the pod's ServiceAccount token, exchanged for an enrollment token."""

from dataclasses import dataclass
from pathlib import Path

from keyreeve import aio
from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE, write_atomically
from keyreeve.identity import SpiffeId
from keyreeve_chassis.identity.evidence import TokenFile


@dataclass(frozen=True)
class ServiceAccountToken:
    """The ServiceAccount token that the kubelet keeps in a file. The enrollment token goes through `token`'s file."""

    path: Path
    bundle: Path
    """PEM of the control hierarchy's roots."""
    address: str
    """`host:port` of the enrollment listener."""
    token: TokenFile

    async def enroll(self, identity: SpiffeId, directory: Path) -> bool:
        """Enroll with the enrollment token that is there, or get one and enroll with that."""
        if await self.token.enroll(identity, directory):
            return True
        try:
            account_token = self.path.read_text("ascii").strip()
            roots = self.bundle.read_bytes()
        except (OSError, ValueError) as failure:
            raise FileUnusable(f"cannot read {self.path} or {self.bundle}: {failure}") from None
        token = await aio.exchange_service_account_token(
            account_token, address=self.address, roots=roots, trust_domain=identity.trust_domain
        )
        # On disk before it is used: after a crash the same token and the key beside it get the same certificate.
        write_atomically(self.token.path, f"{token.text()}\n".encode(), PRIVATE)
        return await self.token.enroll(identity, directory)
