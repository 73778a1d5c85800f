"""Kubernetes evidence: the pod's ServiceAccount token, exchanged for an enrollment token."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.channel_credentials import pinned_options
from keyreeve.enrollment_token import SERVER
from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE, write_atomically
from keyreeve.identity import SpiffeId, service_dns_name
from keyreeve.status import error_from_rpc
from keyreeve_chassis.identity.evidence import TokenFile

METHOD = "/keyreeve.ca.v1.EnrollmentService/ExchangeServiceAccountToken"
EXCHANGE_SECONDS = 10.0


@dataclass(frozen=True)
class ServiceAccountToken:
    """The ServiceAccount token that the kubelet keeps in a file. The enrollment token goes through `token`'s file."""

    path: Path
    bundle: Path
    """PEM of the control hierarchy's roots: a ServiceAccount token is sent to nobody else."""
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
        text = await self._exchange(account_token, roots, service_dns_name(SERVER, identity.trust_domain))
        # On disk before it is used: after a crash the same token and the key beside it get the same certificate.
        write_atomically(self.token.path, f"{text}\n".encode(), PRIVATE)
        return await self.token.enroll(identity, directory)

    async def _exchange(self, account_token: str, roots: bytes, server: str) -> str:
        credentials = grpc.ssl_channel_credentials(roots)
        try:
            async with grpc.aio.secure_channel(
                self.address, credentials, pinned_options(self.address, server)
            ) as channel:
                exchange = channel.unary_unary(
                    METHOD,
                    request_serializer=pb.ExchangeServiceAccountTokenRequest.SerializeToString,
                    response_deserializer=pb.ExchangeServiceAccountTokenResponse.FromString,
                )
                response = await exchange(
                    pb.ExchangeServiceAccountTokenRequest(token=account_token, address=self.address),
                    timeout=EXCHANGE_SECONDS,
                )
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, f"the enrollment listener at {self.address}") from None
        return str(response.text)
