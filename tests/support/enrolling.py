"""Enrollment in tests: tokens, the raw messages, and a listener behind a proxy."""

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import grpc
import pytest

from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.ca.v1.enrollment_service_pb2_grpc import EnrollmentServiceStub
from keyreeve.channel_credentials import pinned_options
from keyreeve.enrollee_files import fetch_root
from keyreeve.enrollment_token import EnrollmentKeys, EnrollmentToken, Transcript
from keyreeve.keys import PrivateKey, make_csr, make_key
from keyreeve.status import error_from_rpc
from keyreeve.values import to_pem
from keyreeve_ca.settings import EnrollSettings
from support.running_ca import ADMIN, RunningCa, running, unique

OPEN_TO_TESTS = EnrollSettings(
    port=0, calls_in_flight=512, calls_per_address=512, calls_per_second=10_000, calls_at_once=10_000
)


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def enrolling_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    """A CA with a listener for enrollees, on each database in turn; its clock may be moved and put back."""
    with running(request.param, request, workers=2, enroll=OPEN_TO_TESTS) as ca:
        yield ca


def address_of(ca: RunningCa, worker: int = 0) -> str:
    """Address of the enrollment listener."""
    return f"127.0.0.1:{ca.servings[worker].enroll_port}"


def new_token(
    ca: RunningCa, path: str | None = None, *, by: str = ADMIN, worker: int = 0, **wanted: Any
) -> EnrollmentToken:
    """Create a token for an identity; default: a new member."""
    path = path or f"members/{unique('host')}.example.test"
    made = ca.client(by).tokens.create(ca.identity(path), address=address_of(ca, worker), **wanted)
    return EnrollmentToken.parse(made.text)


@contextmanager
def enrollee_channel(token: EnrollmentToken) -> Iterator[grpc.Channel]:
    """A channel to the token's listener with the SDK's trust."""
    root = fetch_root(token, 10)
    credentials = grpc.ssl_channel_credentials(to_pem([root]).encode())
    with grpc.secure_channel(
        token.address, credentials, options=pinned_options(token.address, token.server_name)
    ) as channel:
        yield channel


@dataclass
class Conversation:
    """One call of `Enroll`, step by step, with arbitrary messages."""

    channel: grpc.Channel
    token: EnrollmentToken
    key: PrivateKey = field(default_factory=make_key)
    clock: Callable[[], float] = time.time
    seconds: float = 10.0

    def __post_init__(self) -> None:
        self.said: SimpleQueue[pb.EnrollRequest | None] = SimpleQueue()
        self.call = EnrollmentServiceStub(self.channel).Enroll(iter(self.said.get, None), timeout=self.seconds)
        self.keys = EnrollmentKeys.of(self.token.secret, self.token.token_id)
        self.csr = make_csr(self.key)

    def hello(self, **changes: Any) -> None:
        """Say hello."""
        wanted = {
            "token_id": self.token.token_id,
            "client_nonce": secrets.token_bytes(32),
            "client_time": int(self.clock()),
            "release": "test/1",
        }
        self.said_hello = pb.EnrollHello(**{**wanted, **changes})
        self.said.put(pb.EnrollRequest(hello=self.said_hello))

    def challenge(self) -> pb.EnrollChallenge:
        """Receive the challenge. Raises `KeyreeveError`."""
        self.heard = self.hear().challenge
        return self.heard

    def transcript(self, **changes: Any) -> Transcript:
        """The transcript so far."""
        hello, heard = self.said_hello, self.heard
        whole = Transcript(
            self.token.identity.trust_domain,
            self.token.root_sha256,
            self.token.server_name,
            hello.token_id,
            hello.client_nonce,
            hello.client_time,
            hello.release,
            heard.server_nonce,
            heard.server_time,
            heard.identity,
            heard.trust_root,
        )
        return replace(whole, **changes)

    def proof(self, csr: bytes | None = None, client_mac: bytes | None = None) -> None:
        """Send the proof."""
        csr = self.csr if csr is None else csr
        self.mac = self.transcript().client_mac(self.keys, self.heard.server_mac, csr)
        self.said.put(pb.EnrollRequest(proof=pb.EnrollProof(csr=csr, client_mac=client_mac or self.mac)))

    def result(self) -> pb.EnrollResult:
        """Receive the result. Raises `KeyreeveError`."""
        return self.hear().result

    def hear(self) -> pb.EnrollResponse:
        try:
            return next(self.call)
        except grpc.RpcError as failure:
            raise error_from_rpc(failure, "the listener") from None

    def whole(self) -> pb.EnrollResult:
        """Exchange all four messages."""
        self.hello()
        self.challenge()
        self.proof()
        return self.result()

    def end(self) -> None:
        """Cancel the call."""
        self.call.cancel()
        self.said.put(None)


@contextmanager
def conversation(token: EnrollmentToken, **wanted: Any) -> Iterator[Conversation]:
    """Open a conversation on its own channel."""
    with enrollee_channel(token) as channel:
        talk = Conversation(channel, token, **wanted)
        try:
            yield talk
        finally:
            talk.end()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
