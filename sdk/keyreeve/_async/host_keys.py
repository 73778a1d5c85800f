"""The SSH host key of the gateways, which the vault keeps."""

from keyreeve._async.calls import Caller
from keyreeve.credentials.v1 import host_key_service_pb2 as pb
from keyreeve.session_values import HostKey

_SERVICE = "/keyreeve.credentials.v1.HostKeyService"


class HostKeyClient:
    """The host key; reached as `Client.credentials.host_keys`. Every method raises `keyreeve.errors`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, *, timeout: float | None = None) -> HostKey:
        """Get the public host key."""
        found = await self._caller.unary(f"{_SERVICE}/GetHostKey", pb.GetHostKeyRequest(), pb.HostKey, timeout)
        return HostKey(found.algorithm, found.public_key, found.fingerprint)

    async def sign(self, exchange_hash: bytes, *, timeout: float | None = None) -> bytes:
        """Sign the exchange hash of an SSH key exchange; for gateways. The signature is as SSH sends it."""
        request = pb.SignExchangeHashRequest(exchange_hash=exchange_hash)
        method = f"{_SERVICE}/SignExchangeHash"
        return (await self._caller.unary(method, request, pb.SignExchangeHashResponse, timeout)).signature
