"""`peers.ports.PeerChecks` over mutual TLS, with certificates of the profile `peer-check`."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc
from cryptography.hazmat.primitives import serialization

from keyreeve import keys, values
from keyreeve.peer.v1 import peer_service_pb2 as pb
from keyreeve_membership.authorities.ports import ArrayAuthorities
from keyreeve_membership.peers.ports import PeerAnswer

PING = "/keyreeve.peer.v1.PeerService/Ping"
_KEPT_SECONDS = 300
"""How long a certificate is used: such certificates live 15 minutes."""


@dataclass(frozen=True, slots=True)
class _Credentials:
    key_pem: bytes
    chain_pem: bytes
    made_at: float


@dataclass(frozen=True)
class PeerDialer:
    """Pings peer ports."""

    authorities: ArrayAuthorities
    trust_domain: str
    clock: Callable[[], float] = time.monotonic
    seconds: float = 5.0
    """How long a peer port may take to answer."""
    _kept: dict[str, _Credentials] = field(default_factory=dict)
    """By authority."""
    _issuing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """So that checks at the same time ask for one certificate."""

    async def check(self, member: str, address: str, *, authority_id: str, trusted_der: Sequence[bytes]) -> PeerAnswer:
        """Dial a peer port and wait for its answer."""
        mine = await self._credentials(authority_id)
        roots = values.to_pem(trusted_der).encode()
        credentials = grpc.ssl_channel_credentials(roots, mine.key_pem, mine.chain_pem)
        options = [("grpc.ssl_target_name_override", member), ("grpc.enable_http_proxy", 0)]
        nonce = secrets.token_bytes(16)
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            ping = channel.unary_unary(
                PING,
                request_serializer=pb.PingRequest.SerializeToString,
                response_deserializer=pb.PingResponse.FromString,
            )
            try:
                answer = await ping(pb.PingRequest(nonce=nonce), timeout=self.seconds, wait_for_ready=False)
            except grpc.aio.AioRpcError as failure:
                return PeerAnswer(f"{failure.code().name}: {(failure.details() or '')[:160]}")
        if answer.nonce != nonce:
            return PeerAnswer("another nonce came back")
        return PeerAnswer("", answer.boot_id)

    async def _credentials(self, authority_id: str) -> _Credentials:
        async with self._issuing:
            return await self._kept_or_new(authority_id)

    async def _kept_or_new(self, authority_id: str) -> _Credentials:
        kept = self._kept.get(authority_id)
        if kept is not None and self.clock() - kept.made_at < _KEPT_SECONDS:
            return kept
        key, name = keys.make_key(), f"{secrets.token_hex(8)}.probe.{self.trust_domain}"
        csr = keys.make_csr(key, [values.Name.dns(name)])
        issued = await self.authorities.issue_check(authority_id, name, csr)
        pem = values.to_pem([issued.certificate_der]).encode()
        made = _Credentials(_pem(key), pem, self.clock())
        self._kept[authority_id] = made
        return made


def _pem(key: keys.PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
