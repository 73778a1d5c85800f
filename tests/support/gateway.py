"""The gateway service in this process, with sessions that the test opens; the services behind it are given."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from keyreeve import aio
from keyreeve.errors import KeyreeveError
from keyreeve.legacy_values import LegacyCommandLine
from keyreeve.session_proofs import verify_certificate_proof
from keyreeve.session_values import CertificateProof
from keyreeve_chassis.processes.solo import NoStorage
from keyreeve_gateway.app import Gateway
from keyreeve_gateway.service_settings import GatewaySettings
from support.service_in_process import InProcess, in_process
from support.transcripts import PlayedCommand, Stage
from support.waiting import wait_until

SPKI_SHA256 = bytes(range(32))
"""What this gateway says its key is."""


@dataclass
class OpenedSession:
    """A session as the servicer sees it."""

    identity: str
    services: Any
    records: list[tuple[str, str, str]]
    over: asyncio.Future[KeyreeveError]

    async def wait_closed(self) -> KeyreeveError:
        return await asyncio.shield(self.over)

    async def append_record(self, verb: str, code: str, reason: str) -> None:
        self.records.append((verb, code, reason))


@dataclass
class FakeSessions:
    """Checks proofs as the CA does, but for freshness, and remembers what was opened, closed and recorded."""

    services: Any
    opened: list[OpenedSession] = field(default_factory=list)
    closed: int = 0
    records: list[tuple[str, str, str]] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, proof: CertificateProof, _client_address: str) -> AsyncIterator[OpenedSession]:
        verify_certificate_proof(proof, SPKI_SHA256)
        names = x509.load_der_x509_certificate(proof.certificate_der).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        [identity] = names.value.get_values_for_type(x509.UniformResourceIdentifier)
        over: asyncio.Future[KeyreeveError] = asyncio.get_running_loop().create_future()
        self.opened.append(OpenedSession(identity, self.services, self.records, over))
        try:
            yield self.opened[-1]
        finally:
            self.closed += 1


@dataclass
class RunningGateway:
    """The service, and what it opens sessions with."""

    process: InProcess
    sessions: FakeSessions
    client: aio.Client
    """Of an admin."""

    async def run(self, command: PlayedCommand, _stage: Stage) -> int:
        """Run a command of a transcript through Execute."""
        environment = {"HOSTNAME": command.server or "vm", "KEYREEVE_ARRAY": command.array}
        line = LegacyCommandLine(
            command.program.name, command.argv, {name: value for name, value in environment.items() if value}
        )
        try:
            return await self.client.gateway.commands.execute(line, command.console)
        finally:
            await self.until_closed()

    async def until_closed(self) -> None:
        """Wait until every session is closed."""
        await wait_until("sessions are closed", lambda: self.sessions.closed == len(self.sessions.opened))


@asynccontextmanager
async def running_gateway(
    directory: Path, services: Any, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> AsyncIterator[RunningGateway]:
    """Run the service until the context is left."""
    sessions = FakeSessions(services)
    spec = Gateway(lambda _: sessions, lambda _: SPKI_SHA256, now).spec()
    settings = GatewaySettings(trust_domain="test.example", state_directory=directory / "gateway")
    async with in_process(spec, NoStorage(), settings, directory) as process:
        yield RunningGateway(process, sessions, await process.client())
