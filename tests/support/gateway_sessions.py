"""A gateway with its own certificate, and operators who open sessions at it, against a CA in this process."""

from collections.abc import Sequence
from dataclasses import dataclass

from keyreeve import Client, Context
from keyreeve.keys import load_certificates
from keyreeve.session_proofs import certificate_proof, spki_sha256
from keyreeve.session_values import CertificateProof, OpenedSession
from support.running_ca import OPERATOR, RunningCa

GATEWAY = "services/gateway/one"
OTHER_GATEWAY = "services/gateway/two"


def open_session(ca: RunningCa, context: Context) -> None:
    """Open a session of an operator at the gateway of a context, and use its ticket."""
    key = spki_sha256(load_certificates(context.certificate)[0])
    with Client(context) as client:
        opened = client.sessions.open(certificate_proof(ca.context(OPERATOR), key, now=ca.clock.now))
        assert opened.session.identity == ca.identity(OPERATOR)
        assert client.on_behalf(lambda: opened.ticket.data).sessions.renew().expires_at >= opened.ticket.expires_at


@dataclass(frozen=True)
class Gateway:
    """A gateway as the CA sees it."""

    ca: RunningCa
    path: str = GATEWAY
    worker: int = 0

    @property
    def client(self) -> Client:
        return self.ca.client(self.path, worker=self.worker)

    @property
    def spki_sha256(self) -> bytes:
        return spki_sha256(load_certificates(self.ca.context(self.path, worker=self.worker).certificate)[0])

    def proof(self, who: str = OPERATOR) -> CertificateProof:
        """What an operator proves to this gateway, now."""
        return certificate_proof(self.ca.context(who), self.spki_sha256, now=self.ca.clock.now)

    def open(
        self, who: str = OPERATOR, *, audiences: Sequence[str] = (), method_families: Sequence[str] = ()
    ) -> OpenedSession:
        """Open a session of an operator."""
        return self.client.sessions.open(
            self.proof(who), audiences=audiences, method_families=method_families, client_address="203.0.113.7"
        )

    def on_behalf(self, opened: OpenedSession) -> Client:
        """The gateway's client with the ticket of a session."""
        return self.client.on_behalf(lambda: opened.ticket.data)
