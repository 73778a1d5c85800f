"""`Sessions` on the CA's OperatorSessionService: a ticket for each session, renewed while it is open."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keyreeve.errors import KeyreeveError, Unauthenticated
from keyreeve.request_ids import new_request_id
from keyreeve_gateway.ports import Services
from keyreeve_gateway.sessions.ports import Session

if TYPE_CHECKING:
    from keyreeve.aio import Client
    from keyreeve.session_values import CertificateProof, OpenedSession, OperatorSession, SshProof
    from keyreeve_gateway.ssh.ports import SshLogin

RENEW_BEFORE = timedelta(minutes=2)
"""How long before a ticket expires it is renewed."""
RETRY_SECONDS = 5.0
LOOK_SECONDS = 1.0
"""How often a session is looked up in what the CA says of closed sessions and of operators."""
CLOSE_SECONDS = 5.0
_log = logging.getLogger("keyreeve.gateway")


WhyOver = Callable[["OperatorSession"], KeyreeveError | None]
"""Says why a session is over, from memory; None: it is not."""


class TicketedSession:
    """A session, and the client that calls with its present ticket."""

    def __init__(self, opened: "OpenedSession", client: "Client") -> None:
        self._session, self._ticket = opened.session, opened.ticket
        self._client = client.on_behalf(lambda: self._ticket.data)
        self._over: asyncio.Future[KeyreeveError] = asyncio.get_running_loop().create_future()

    @property
    def identity(self) -> str:
        """SPIFFE ID of the operator."""
        return self._session.identity

    @property
    def services(self) -> Services:
        """The services, called on behalf of the operator."""
        return self._client

    async def wait_closed(self) -> KeyreeveError:
        """Wait until the session is over before its end; return why."""
        return await asyncio.shield(self._over)

    async def append_record(self, verb: str, code: str, reason: str) -> None:
        """Append the audit record of a verb to the CA's log."""
        await self._client.audit.append_verb_record(
            verb, self.identity, code=code, reason=reason, peer=self._session.client_address
        )

    async def watch(self, why_over: "WhyOver", sleep: Callable[[float], Awaitable[None]]) -> None:
        """Look for the end of the session."""
        while (why := why_over(self._session)) is None:
            await sleep(LOOK_SECONDS)
        self._end(why)

    def _end(self, why: KeyreeveError) -> None:
        if not self._over.done():
            self._over.set_result(why)

    async def renew(self, now: Callable[[], datetime], sleep: Callable[[float], Awaitable[None]]) -> None:
        """Renew the ticket for as long as the session is open."""
        while True:
            left = self._ticket.expires_at - now() - RENEW_BEFORE
            await sleep(max(left.total_seconds(), RETRY_SECONDS))
            try:
                self._ticket = await self._client.sessions.renew()
            except Unauthenticated as refused:
                self._end(refused)
                return
            except KeyreeveError as failure:
                _log.warning("a session could not be renewed: %s", failure.message)

    async def close(self) -> None:
        """Close the session; what fails ends by itself when the ticket expires."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.sessions.close(self._session.name)
        except (KeyreeveError, TimeoutError) as failure:
            _log.warning("a session could not be closed: %s", failure)


class TicketedSessions:
    """Opens sessions with the gateway's own client, which may do nothing else."""

    def __init__(
        self,
        client: "Client",
        now: Callable[[], datetime],
        why_over: WhyOver,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the gateway's own client, a clock, what knows of ended sessions, and what waits."""
        self._client, self._now, self._why_over, self._sleep = client, now, why_over, sleep
        self._closing: set[asyncio.Task[None]] = set()

    def open_ssh(self, login: "SshLogin", client_address: str) -> AbstractAsyncContextManager[Session]:
        """Open the session of the person who has logged in over SSH."""
        from keyreeve.session_values import SshProof

        proof = SshProof(
            session_id=login.session_id,
            user_name=login.user_name,
            algorithm=login.algorithm,
            public_key=login.public_key,
            signature=login.signature,
        )
        return self.open(proof, client_address)

    @asynccontextmanager
    async def open(self, proof: "CertificateProof | SshProof", client_address: str) -> AsyncIterator[Session]:
        """Open the session of the operator who made the proof; leaving the context closes it."""
        opened = await self._client.sessions.open(proof, client_address=client_address, request_id=new_request_id())
        session = TicketedSession(opened, self._client)
        tasks = (
            asyncio.create_task(session.renew(self._now, self._sleep)),
            asyncio.create_task(session.watch(self._why_over, self._sleep)),
        )
        try:
            yield session
        finally:
            for task in tasks:
                task.cancel()
            # Apart from the call, whose client may be gone, or does not wait for it.
            closing = asyncio.create_task(session.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
