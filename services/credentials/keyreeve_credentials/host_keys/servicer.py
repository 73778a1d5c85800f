"""HostKeyService: access rules, and messages to values and back."""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve.credentials.v1 import host_key_service_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES, Role
from keyreeve_chassis.guard.access import AccessRule, AccessRules, Freshness
from keyreeve_chassis.guard.call import Call, invalid, peer_of
from keyreeve_credentials.host_keys.host_key import ALGORITHM, SshHostKey

_SERVICE = "/keyreeve.credentials.v1.HostKeyService/"
_GATEWAYS = frozenset({Role.GATEWAY})
_HASHES = (32, 48, 64)
"""Octets of the hashes of key exchanges."""

ACCESS: AccessRules = {
    _SERVICE + "GetHostKey": AccessRule(_GATEWAYS | OPERATOR_ROLES, freshness=Freshness.TOLERANT),
    # Before a login there is nobody on whose behalf: a gateway is the SSH host, so it may ask by itself.
    _SERVICE + "SignExchangeHash": AccessRule(_GATEWAYS),
}


@dataclass(frozen=True)
class HostKeyServicer:
    """Serves HostKeyService."""

    key: SshHostKey
    check_seal: Callable[[], None]
    """Raises `VaultSealed`."""
    count: Callable[[str], None]
    """Counts a signature of a gateway. Raises `ReadRateExceeded`."""

    async def GetHostKey(self, request: pb.GetHostKeyRequest, call: Call) -> pb.HostKey:
        self.check_seal()
        return pb.HostKey(algorithm=ALGORITHM, public_key=self.key.public_key, fingerprint=self.key.fingerprint)

    async def SignExchangeHash(self, request: pb.SignExchangeHashRequest, call: Call) -> pb.SignExchangeHashResponse:
        if len(request.exchange_hash) not in _HASHES:
            raise invalid("exchange_hash", f"{', '.join(map(str, _HASHES))} octets are required")
        self.check_seal()
        self.count(str(peer_of(call)))
        return pb.SignExchangeHashResponse(signature=self.key.sign(request.exchange_hash))
