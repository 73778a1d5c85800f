"""PeerService on the peer port: every call is checked against the trust of the moment, then answered."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from cryptography import x509
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from keyreeve.errors import (
    AccessDenied,
    FieldInvalid,
    KeyreeveError,
    PeerCertificateMissing,
    PeerIdentityInvalid,
    ServiceStopping,
    Violation,
)
from keyreeve.peer.v1 import peer_service_pb2 as pb
from keyreeve_agent.peers.acceptance import Peer, PeerKind
from keyreeve_agent.peers.view import ArrayView
from keyreeve_chassis.guard.call import Call
from keyreeve_chassis.guard.failures import trailers

SERVICE = "keyreeve.peer.v1.PeerService"
_MEMBERS = frozenset({PeerKind.MEMBER})
_ANY = frozenset({PeerKind.MEMBER, PeerKind.MEMBERSHIP})
ACCESS: Mapping[str, frozenset[PeerKind]] = {"Ping": _ANY, "GetPeerStatus": _MEMBERS}
MAX_NONCE = 64
_CODES = {code.value[0]: code for code in grpc.StatusCode}
HEARD_SECONDS = 60.0
"""The control plane counts as reachable for so long after its last answer."""


@dataclass(frozen=True)
class PeerServicer:
    """Serves PeerService for one member."""

    view: ArrayView
    now: Callable[[], float] = time.time

    def handlers(self) -> grpc.GenericRpcHandler:
        """The handlers for a gRPC server."""
        calls: dict[str, tuple[type[Message], Callable[[Any], Message]]] = {
            "Ping": (pb.PingRequest, self._ping),
            "GetPeerStatus": (pb.GetPeerStatusRequest, self._status),
        }
        assert calls.keys() == ACCESS.keys(), "each method has a rule"
        methods: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._guarded(name, request, answer))
            for name, (request, answer) in calls.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _guarded(self, name: str, request: type[Message], answer: Callable[[Any], Message]) -> Callable[..., Any]:
        async def serve(data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            try:
                self._check(name, context.auth_context())
                return answer(_read(request, data)).SerializeToString()
            except KeyreeveError as error:
                code, message, metadata = trailers(error, Call(f"/{SERVICE}/{name}", peer=context.peer()))
                await context.abort(_CODES[code], message, metadata)

        return serve

    def _check(self, name: str, auth: Mapping[str, Any]) -> Peer:
        """Return the caller. Raises what the contract lists: TLS alone would accept an expired or removed member."""
        trust = self.view.trust
        if trust is None:
            raise ServiceStopping("this server has no peer certificate yet")
        pem = next(iter(auth.get("x509_pem_cert", ())), b"")
        if not pem:
            raise PeerCertificateMissing("the connection carries no client certificate")
        try:
            certificate = x509.load_pem_x509_certificate(pem)
        except ValueError:
            raise PeerIdentityInvalid("the client certificate cannot be read") from None
        peer = trust.accept(certificate, self.now())
        if peer.kind not in ACCESS[name]:
            raise AccessDenied(f"{peer.kind.value} may not call {name}", metadata={"allowed": PeerKind.MEMBER.value})
        return peer

    def _ping(self, request: pb.PingRequest) -> pb.PingResponse:
        if not 1 <= len(request.nonce) <= MAX_NONCE:
            what = f"1 to {MAX_NONCE} bytes are required"
            raise FieldInvalid(f"nonce: {what}", violations=[Violation("nonce", what)])
        epoch = None if self.view.loaded is None else self.view.loaded.material.epoch
        return pb.PingResponse(
            nonce=request.nonce,
            member=f"members/{self.view.name}",
            array=self.view.array,
            epoch=0 if epoch is None else epoch.epoch,
            digest=b"" if epoch is None else epoch.digest,
            boot_id=self.view.boot_id,
            time=timestamp(self.now()),
        )

    def _status(self, _: pb.GetPeerStatusRequest) -> pb.PeerStatus:
        view = self.view
        epoch = None if view.loaded is None else view.loaded.material.epoch
        return pb.PeerStatus(
            member=f"members/{view.name}",
            array=view.array,
            primary=f"members/{view.primary}" if view.primary else "",
            members=[f"members/{one.name}" for one in view.members],
            epoch=0 if epoch is None else epoch.epoch,
            digest=b"" if epoch is None else epoch.digest,
            peers=[
                pb.PeerReachability(member=f"members/{name}", reachable=one.reachable, problem=one.problem)
                for name, one in sorted(view.reached.items())
            ],
            control_plane_reachable=self.now() - view.heard_at < HEARD_SECONDS,
        )


def timestamp(seconds: float) -> Timestamp:
    """A time as a message."""
    made = Timestamp()
    made.FromNanoseconds(int(seconds * 1e9))
    return made


def _read(kind: type[Message], data: bytes) -> Message:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        raise FieldInvalid("the request cannot be read") from None
    return message
