"""The composition root: what the process of the service is built from, with every concrete class named here."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from keyreeve import aio
from keyreeve.errors import SessionClosed
from keyreeve.keys import load_certificates
from keyreeve.session_proofs import spki_sha256
from keyreeve.session_values import OperatorSession
from keyreeve_chassis.guard.router import ServedService
from keyreeve_chassis.processes.solo import NoStorage, solo_role
from keyreeve_chassis.service import ProcessIdentity, ServiceContext, ServiceSpec
from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.execute.servicer import ACCESS, DESCRIPTOR, LegacyGatewayServicer
from keyreeve_gateway.programs import PROGRAMS
from keyreeve_gateway.service_settings import GatewaySettings
from keyreeve_gateway.sessions.ports import Sessions
from keyreeve_gateway.sessions.ticketed import TicketedSessions
from keyreeve_gateway.settings import load_settings
from keyreeve_gateway.text import last_part

GatewayContext = ServiceContext[GatewaySettings]


def ticketed_sessions(context: GatewayContext) -> Sessions:
    """Sessions that the CA vouches for, with this service's own certificate."""
    own, addresses = context.identity.context, context.settings.services
    others = {"membership": addresses.membership, "credentials": addresses.credentials}
    endpoints = {**own.endpoints, **{name: at for name, at in others.items() if at}}
    client = aio.Client(dataclasses.replace(own, endpoints=endpoints))
    return TicketedSessions(client, _utc_now, partial(why_over, context.identity))


def why_over(identity: ProcessIdentity, session: OperatorSession) -> SessionClosed | None:
    """Why a session is over, as every service that takes its tickets decides."""
    if identity.revocations.is_session_closed(last_part(session.name)):
        return SessionClosed("the session was closed")
    operators = identity.trust_view().operators
    record = None if operators is None else operators.get(session.identity)
    if operators is not None and (record is None or record.uid != session.person_uid):
        return SessionClosed(f"{session.identity} is no operator any more")
    return None


def _utc_now() -> datetime:
    return datetime.now(UTC)


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
        settings = load_settings(context.settings.state_directory, {})
        commands = LegacyCommands(PROGRAMS, settings, self.now)
        servicer = LegacyGatewayServicer(commands, self.sessions(context), partial(self.spki_sha256, context))
        return [ServedService(DESCRIPTOR, servicer, ACCESS)]

    def spec(self) -> ServiceSpec[GatewaySettings, GatewayContext]:
        """What the service says about itself."""
        return ServiceSpec("gateway", GatewaySettings, (solo_role(NoStorage()),), routers=self.routers)


SPEC = Gateway(ticketed_sessions, own_spki_sha256).spec()
