"""`HostKey` in the vault: all gateways present the same, and none has it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyreeve.errors import KeyreeveError

if TYPE_CHECKING:
    from keyreeve.aio import Client

RETRY_SECONDS = 5.0
_log = logging.getLogger("keyreeve.gateway")


@dataclass(frozen=True, slots=True)
class VaultHostKey:
    """The vault's key for SSH."""

    algorithm: str
    public_key: bytes
    client: "Client"

    async def sign_exchange_hash(self, exchange_hash: bytes) -> bytes:
        """Sign a key exchange."""
        return await self.client.credentials.host_keys.sign(exchange_hash)


async def fetch_host_key(client: "Client", sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> VaultHostKey:
    """Fetch the public half, for as long as the vault does not answer."""
    while True:
        try:
            found = await client.credentials.host_keys.get()
        except KeyreeveError as failure:
            _log.warning("the host key of SSH is not known yet: %s", failure.message)
            await sleep(RETRY_SECONDS)
        else:
            return VaultHostKey(found.algorithm, found.public_key, client)
