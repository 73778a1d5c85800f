"""Every method of the CA service, called by a gateway with every kind of ticket."""

from dataclasses import dataclass

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keyreeve.errors import SessionClosed
from keyreeve.identity import Role
from keyreeve.keys import load_certificates, make_key
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.router import Kind
from support.access_matrix import PATHS
from support.contract import METHODS, ROWS
from support.gateway_sessions import GATEWAY, Gateway
from support.peer_certificates import Leaf
from support.running_ca import RunningCa, refused
from support.ticket_matrix import PEOPLE, TicketMaker, bad_tickets, ticket_contents, walk_tickets
from support.waiting import wait_for


@dataclass(frozen=True)
class CaMethod:
    name: str
    row: AccessRule

    @property
    def kind(self) -> Kind:
        streams = METHODS[self.name].client_streaming, METHODS[self.name].server_streaming
        return {
            (False, False): Kind.UNARY,
            (False, True): Kind.SERVER_STREAM,
            (True, False): Kind.CLIENT_STREAM,
            (True, True): Kind.BIDI_STREAM,
        }[streams]


def leaf_of(ca: RunningCa, path: str) -> Leaf:
    """A certificate of a service, with its key, that the CA has issued."""
    key = make_key()
    return Leaf(x509.load_der_x509_certificate(ca.issue(path, key).der), key, ())


@pytest.mark.sqlite_first
async def test_every_method_refuses_bad_tickets_and_gives_operators_what_they_may_do_through_a_gateway(
    ca: RunningCa,
) -> None:
    signer, context, now = leaf_of(ca, "services/ca/signing"), ca.context(GATEWAY), ca.clock.now()
    gateway_der, signer_der = load_certificates(context.certificate)[0], signer.certificate.public_bytes(Encoding.DER)
    makers = {}
    for role in PEOPLE:
        person_uid = ca.client().operators.get(PATHS[role].rpartition("/")[2]).person_uid
        contents = ticket_contents(ca.identity(PATHS[role]), person_uid, gateway_der, now=now)
        makers[role] = TicketMaker(signer_der, signer.key, contents, ca.settings.trust_domain)
    opened = Gateway(ca).open()
    ca.client().sessions.close(opened.session.name)
    maker, closed = makers[Role.ADMIN], opened.session.name.partition("/")[2]
    bad = list(bad_tickets(maker, leaf_of(ca, "services/credentials/forging"), "ca", closed))
    credentials = grpc.ssl_channel_credentials(
        context.bundle.read_bytes(), context.key.read_bytes(), context.certificate.read_bytes()
    )
    methods = [CaMethod(name, row) for name, row in sorted(ROWS.items()) if not row.anyone]
    behalf = Gateway(ca).on_behalf(opened).sessions
    wait_for("that the session is closed here", lambda: isinstance(refused(behalf.renew), SessionClosed))
    async with grpc.aio.secure_channel(context.endpoint("ca"), credentials, options=ca.pinned) as channel:
        tried = await walk_tickets(channel, methods, bad, {role: maker.make() for role, maker in makers.items()})
    assert tried == len(methods) * (len(bad) + len(PEOPLE))
