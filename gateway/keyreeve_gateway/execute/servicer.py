"""`LegacyGateway`: messages and values."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial

from keyreeve.errors import AccessDenied, FieldInvalid
from keyreeve.gateway.v1 import legacy_gateway_pb2 as pb
from keyreeve.identity import OPERATOR_ROLES
from keyreeve.session_values import CertificateProof
from keyreeve_chassis.guard.access import AccessRule
from keyreeve_chassis.guard.call import Call, caller_of
from keyreeve_gateway.execute.dialog import Dialog
from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.sessions.ports import Sessions

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["LegacyGateway"]
ACCESS = {f"/{DESCRIPTOR.full_name}/Execute": AccessRule(OPERATOR_ROLES, long_stream=True, batches=True)}


class LegacyGatewayServicer:
    """Serves Execute."""

    def __init__(self, commands: LegacyCommands, sessions: Sessions, spki_sha256: Callable[[], bytes]) -> None:
        """Take what carries out commands, what opens sessions, and what names this gateway's key."""
        self._commands = commands
        self._sessions = sessions
        self._spki_sha256 = spki_sha256

    async def Execute(  # noqa: N802 - the name in the contract
        self, requests: AsyncIterator[pb.ExecuteRequest], call: Call
    ) -> AsyncIterator[pb.ExecuteResponse]:
        """Carry out one command line."""
        yield pb.ExecuteResponse(hello=pb.Hello(spki_sha256=self._spki_sha256()))
        first = await anext(requests, None)
        if first is None or not first.HasField("start"):
            raise FieldInvalid("message: the first one is `start`")
        start = first.start
        argv = [argument.decode("utf-8", "surrogateescape") for argument in start.arguments]
        command = self._commands.command_line(start.program, argv, start.environment)
        async with self._sessions.open(_proof(start), call.peer) as session:
            if session.identity != str(caller_of(call)):
                raise AccessDenied("the proof is another operator's than the certificate of this connection")
            dialog = Dialog(requests, interactive=start.interactive)
            work = partial(self._commands.carry_out, command, session)
            async with aclosing(dialog.run(work, session.wait_closed)) as responses:
                async for response in responses:
                    yield response


def _proof(start: pb.ExecuteStart) -> CertificateProof:
    sent = start.proof
    return CertificateProof(sent.certificate_der, sent.nonce, sent.time.seconds, sent.signature)
