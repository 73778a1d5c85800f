"""`TokenSteps`: in this process where it may write, else by the coordinator."""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve_ca.enrollment.service import TokenSteps
from keyreeve_ca.store.ports import Store
from keyreeve_chassis.processes.ipc import Client, Connection, Handler

CALL_SECONDS = 8.0
"""Below the ten seconds that an enrollment may take."""


@dataclass(frozen=True)
class DirectTokenSteps:
    """The steps in a process that writes to the database."""

    store: Store
    now: Callable[[], int]

    async def bind(self, token_id: bytes, spki_sha256: bytes) -> bool:
        """Bind an open token to a key."""
        return await self.store.write(lambda tx: tx.tokens.bind(token_id, spki_sha256, self.now()))

    async def issued(self, token_id: bytes, serial: bytes) -> None:
        """Record the certificate of a bound token."""
        await self.store.write(lambda tx: tx.tokens.issued(token_id, serial))

    async def close(self, serial: bytes) -> bool:
        """Close the token of a certificate."""
        return await self.store.write(lambda tx: tx.tokens.close(serial, self.now()))


@dataclass(frozen=True)
class CoordinatorTokenSteps:
    """The steps of a worker on SQLite."""

    client: Client

    async def bind(self, token_id: bytes, spki_sha256: bytes) -> bool:
        """Bind an open token to a key."""
        bound: bool = await self.client.call("bind_token", (token_id, spki_sha256), CALL_SECONDS)
        return bound

    async def issued(self, token_id: bytes, serial: bytes) -> None:
        """Record the certificate of a bound token."""
        await self.client.call("token_issued", (token_id, serial), CALL_SECONDS)

    async def close(self, serial: bytes) -> bool:
        """Close the token of a certificate."""
        closed: bool = await self.client.call("close_token", serial, CALL_SECONDS)
        return closed


def handlers(steps: TokenSteps) -> dict[str, Handler]:
    """The coordinator's handlers for `CoordinatorTokenSteps`."""

    async def bind(payload: tuple[bytes, bytes], _: Connection) -> bool:
        return await steps.bind(*payload)

    async def issued(payload: tuple[bytes, bytes], _: Connection) -> None:
        await steps.issued(*payload)

    async def close(payload: bytes, _: Connection) -> bool:
        return await steps.close(payload)

    return {"bind_token": bind, "token_issued": issued, "close_token": close}
