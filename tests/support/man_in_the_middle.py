"""A man in the middle with a certificate that the enrollee accepts, as if TLS had failed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keyreeve import errors
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.ca.v1 import enrollment_service_pb2_grpc as stubs
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.keys import make_csr, make_key
from keyreeve.values import Name, NameType, to_pem
from keyreeve_ca.issuance.service import SignItem
from support.enrolling import enrollee_channel
from support.running_ca import RunningCa

Message = pb.EnrollRequest | pb.EnrollResponse
Change = Callable[[Message], Message | None]
"""Change of a message in transit; None cuts the connection."""


@dataclass
class Middle(stubs.EnrollmentServiceServicer):
    """Forwards every message, changed by `change`."""

    real: EnrollmentToken
    change: Change
    passed: list[Message] = field(default_factory=list)

    def Enroll(  # noqa: N802  # the contract's name
        self, request_iterator: Iterator[pb.EnrollRequest], context: Any
    ) -> Iterator[pb.EnrollResponse]:
        onward: SimpleQueue[pb.EnrollRequest | None] = SimpleQueue()
        with enrollee_channel(self.real) as channel:
            call = stubs.EnrollmentServiceStub(channel).Enroll(iter(onward.get, None), timeout=9)
            try:
                for request in request_iterator:
                    onward.put(self._pass(request, context))
                    yield self._pass(next(call), context)
            except grpc.RpcError as failure:
                context.set_trailing_metadata(failure.trailing_metadata())
                context.set_code(failure.code())
                context.set_details(failure.details())
            finally:
                call.cancel()
                onward.put(None)

    def _pass(self, message: Any, context: Any) -> Any:
        self.passed.append(message)
        changed = self.change(message)
        if changed is None:
            context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        return changed


@contextmanager
def in_the_middle(ca: RunningCa, token: EnrollmentToken, change: Change) -> Iterator[tuple[EnrollmentToken, Middle]]:
    """A token with the address of the man in the middle."""
    middle = Middle(token, change)
    server = grpc.server(ThreadPoolExecutor(8))
    stubs.add_EnrollmentServiceServicer_to_server(middle, server)
    port = server.add_secure_port("127.0.0.1:0", _stolen_credentials(ca))
    server.start()
    try:
        yield replace(token, address=f"127.0.0.1:{port}"), middle
    finally:
        server.stop(0).wait()


def _stolen_credentials(ca: RunningCa) -> grpc.ServerCredentials:
    """A certificate for the name of the listener, with its chain."""
    key = make_key()
    names = (
        Name(NameType.URI, ca.identity("services/ca/stolen")),
        Name(NameType.DNS, f"enroll.svc.{ca.settings.trust_domain}"),
    )
    entry = ca.sign_in_process(SignItem("enrollment", make_csr(key), names))
    assert not isinstance(entry, errors.KeyreeveError)
    authorities = ca.coordinator.issuance.snapshot().authorities
    issuing = authorities[entry.authority_id]
    chain = to_pem([entry.der, issuing.certificate_der, authorities[issuing.issuer_id].certificate_der]).encode()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return grpc.ssl_server_credentials([(pem, chain)])
