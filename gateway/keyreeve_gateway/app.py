"""The composition root: what the process of the service is built from, with every concrete class named here."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from keyreeve import aio
from keyreeve.errors import SessionClosed
from keyreeve.keys import load_certificates
from keyreeve.session_proofs import spki_sha256
from keyreeve.session_values import OperatorSession
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.processes.solo import NoStorage, solo_role
from keyreeve_chassis.service import Jobs, ProcessIdentity, ServiceContext, ServiceSpec
from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.execute.servicer import ACCESS, DESCRIPTOR, LegacyGatewayServicer
from keyreeve_gateway.mmp.program import MMP
from keyreeve_gateway.programs import PROGRAMS
from keyreeve_gateway.service_settings import GatewaySettings
from keyreeve_gateway.sessions.ports import Sessions
from keyreeve_gateway.sessions.ticketed import TicketedSessions
from keyreeve_gateway.settings import VARIABLE, load_settings
from keyreeve_gateway.text import last_part

_log = structlog.get_logger(__name__)

GatewayContext = ServiceContext[GatewaySettings]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def own_client(context: GatewayContext) -> aio.Client:
    """The client with this service's own certificate, which may open sessions and have the host key sign."""
    own, addresses = context.identity.context, context.settings.services
    others = {"membership": addresses.membership, "credentials": addresses.credentials}
    endpoints = {**own.endpoints, **{name: at for name, at in others.items() if at}}
    return aio.Client(dataclasses.replace(own, endpoints=endpoints))


def ticketed_sessions(context: GatewayContext) -> TicketedSessions:
    """Sessions that the CA vouches for."""
    return TicketedSessions(own_client(context), _utc_now, partial(why_over, context.identity))


async def serve_ssh(context: GatewayContext) -> None:
    """Serve SSH and SFTP once the vault has told which host key there is."""
    from keyreeve_gateway.ssh.backoff import Backoff
    from keyreeve_gateway.ssh.commands import SshCommands
    from keyreeve_gateway.ssh.connection import SshDoor
    from keyreeve_gateway.ssh.host_key import fetch_host_key
    from keyreeve_gateway.ssh.listener import open_listener

    ssh = context.settings.ssh
    host_key = await fetch_host_key(own_client(context))
    commands = SshCommands(legacy_commands(context), MMP, ssh.host_name)
    door = SshDoor(ticketed_sessions(context), host_key, commands, Backoff(time.monotonic))
    async with open_listener(ssh, door) as port:
        _log.info("serving SSH", host=ssh.host, port=port)
        await asyncio.Event().wait()


def legacy_commands(context: GatewayContext, now: Callable[[], datetime] = _utc_now) -> LegacyCommands:
    """The commands of both programs, with the settings of their file."""
    named = context.settings.legacy_file
    environment = {} if named is None else {VARIABLE: str(named)}
    return LegacyCommands(PROGRAMS, load_settings(context.settings.state_directory, environment), now)


def why_over(identity: ProcessIdentity, session: OperatorSession) -> SessionClosed | None:
    """Why a session is over, as every service that takes its tickets decides."""
    if identity.revocations.is_session_closed(last_part(session.name)):
        return SessionClosed("the session was closed")
    operators = identity.trust_view().operators
    record = None if operators is None else operators.get(session.identity)
    if operators is not None and (record is None or record.uid != session.person_uid):
        return SessionClosed(f"{session.identity} is no operator any more")
    return None


def own_spki_sha256(context: GatewayContext) -> bytes:
    """Name the key that this gateway calls the CA with, at present."""
    return spki_sha256(load_certificates(context.identity.context.certificate)[0])


@dataclass(frozen=True)
class Gateway:
    """The service over its port to the sessions, and the name of its key."""

    sessions: Callable[[GatewayContext], Sessions]
    spki_sha256: Callable[[GatewayContext], bytes]
    now: Callable[[], datetime] = _utc_now

    def routers(self, context: GatewayContext) -> Sequence[ServedService]:
        """Its RPC services."""
        commands = legacy_commands(context, self.now)
        servicer = LegacyGatewayServicer(commands, self.sessions(context), partial(self.spki_sha256, context))
        return [ServedService(DESCRIPTOR, servicer, ACCESS)]

    def jobs(self, context: GatewayContext) -> Jobs:
        """SSH, where it has a port."""
        return () if context.settings.ssh.port is None else (serve_ssh(context),)

    def spec(self) -> ServiceSpec[GatewaySettings, GatewayContext]:
        """What the service says about itself."""
        return ServiceSpec("gateway", GatewaySettings, (solo_role(NoStorage()),), jobs=self.jobs, routers=self.routers)


SPEC = Gateway(ticketed_sessions, own_spki_sha256).spec()
