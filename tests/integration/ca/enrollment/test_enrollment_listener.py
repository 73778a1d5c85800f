"""Methods by listener: only enrollment for enrollees, everything else for holders of certificates."""

import uuid

import grpc
import pytest

from keyreeve import errors
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.channel_credentials import pinned_options
from keyreeve.enrollee_files import fetch_root
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.identity import Role
from keyreeve.status import error_from_rpc
from keyreeve.token_values import TokenState
from keyreeve.values import to_pem
from keyreeve_ca.enrollment.rules import MAY_LET_IN
from support.access_matrix import PATHS
from support.enrolling import address_of, conversation, enrollee_channel, enrolling_ca, new_token
from support.fake_ca_server import METHODS
from support.running_ca import ADMIN, AUDITOR, OPERATOR, RunningCa, refused, running, unique

pytestmark = pytest.mark.sqlite_first

__all__ = ["enrolling_ca"]

CALLERS = [role for role in PATHS if role is not Role.CA]
"""The CA calls itself in process."""
ENROLL = "/keyreeve.ca.v1.EnrollmentService/Enroll"
EXCHANGE = "/keyreeve.ca.v1.EnrollmentService/ExchangeServiceAccountToken"
RENEW = "/keyreeve.ca.v1.EnrollmentService/RenewExpired"
OTHERS = [
    *(name for name in METHODS if name not in {ENROLL, EXCHANGE, RENEW}),
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/keyreeve.ca.v1.EnrollmentService/enroll",
    "/keyreeve.ca.v1.EnrollmentService//Enroll",
]


def told_by(channel: grpc.Channel, method: str) -> errors.KeyreeveError:
    call = channel.stream_stream(method)(iter([b""]), timeout=5)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return error_from_rpc(caught.value, "the listener")


def test_the_enrollment_listener_has_nothing_but_enroll(enrolling_ca: RunningCa) -> None:
    token = new_token(enrolling_ca)
    with enrollee_channel(token) as channel:
        assert {type(told_by(channel, method)) for method in OTHERS} == {errors.MethodUnknown}
        assert type(told_by(channel, ENROLL)) is errors.FieldInvalid


def test_a_certificate_opens_nothing_more_on_the_enrollment_listener(enrolling_ca: RunningCa) -> None:
    token = new_token(enrolling_ca)
    admin = enrolling_ca.context(ADMIN)
    credentials = grpc.ssl_channel_credentials(
        admin.bundle.read_bytes(), admin.key.read_bytes(), admin.certificate.read_bytes()
    )
    with grpc.secure_channel(
        token.address, credentials, options=pinned_options(token.address, token.server_name)
    ) as channel:
        assert {type(told_by(channel, method)) for method in OTHERS} == {errors.MethodUnknown}


@pytest.mark.parametrize("role", CALLERS, ids=lambda role: role.name)
def test_the_main_listener_does_not_know_enroll(enrolling_ca: RunningCa, role: Role) -> None:
    channel = enrolling_ca.channel(PATHS[role])
    assert type(told_by(channel, ENROLL)) is errors.MethodUnknown


def test_each_listener_shows_its_own_name_alone(enrolling_ca: RunningCa) -> None:
    token = new_token(enrolling_ca)
    root = to_pem([fetch_root(token, 10)]).encode()
    main = enrolling_ca.context(ADMIN).endpoint("ca")
    for address, name in ((token.address, "ca.svc.example.test"), (main, token.server_name)):
        with (
            grpc.secure_channel(
                address, grpc.ssl_channel_credentials(root), options=pinned_options(address, name)
            ) as channel,
            pytest.raises(grpc.FutureTimeoutError),
        ):
            grpc.channel_ready_future(channel).result(timeout=0.5)


# --- Who may make which tokens ----------------------------------------------------------------------------------------


def path_for(role: Role) -> str:
    return {
        Role.MEMBER: f"members/{unique('m')}.example.test",
        Role.WORKLOAD: f"workloads/{unique('w')}",
    }.get(role, f"{role.value}/{unique('x')}")


@pytest.mark.parametrize("maker", CALLERS, ids=lambda role: role.name)
def test_a_token_is_never_worth_more_than_its_makers_role(enrolling_ca: RunningCa, maker: Role) -> None:
    address = address_of(enrolling_ca)
    for wanted in Role:
        identity = enrolling_ca.identity(path_for(wanted))

        def make(identity: str = identity) -> object:
            return enrolling_ca.client(PATHS[maker]).tokens.create(identity, address=address)

        if wanted in MAY_LET_IN.get(maker, frozenset()):
            make()
        else:
            assert type(refused(make)) in {errors.TokenNotAllowed, errors.AccessDenied}


def test_the_table_of_makers_is_the_documented_one() -> None:
    assert Role.CA not in {wanted for worth in MAY_LET_IN.values() for wanted in worth}
    assert MAY_LET_IN[Role.OPERATOR] == {Role.MEMBER, Role.WORKLOAD}
    assert MAY_LET_IN[Role.MEMBERSHIP] == {Role.MEMBER}
    assert set(MAY_LET_IN) == {Role.ADMIN, Role.CA, Role.OPERATOR, Role.MEMBERSHIP}


@pytest.mark.parametrize(
    "identity",
    [
        "members/web.example.test",
        "spiffe://other.test/members/web.example.test",
        "spiffe://example.test/services/unknown/one",
        "spiffe://example.test/members/Web.example.test",
        "spiffe://example.test/members/web..test",
        "spiffe://example.test/operators/root/eve",
        "spiffe://example.test/members/a/b",
    ],
)
def test_a_token_without_an_identity_is_not_created(enrolling_ca: RunningCa, identity: str) -> None:
    tokens = enrolling_ca.client().tokens
    assert type(refused(lambda: tokens.create(identity, address="ca.test:1"))) is errors.NameRefused


def test_an_operator_may_not_revoke_what_it_could_not_make(enrolling_ca: RunningCa) -> None:
    of_admin = new_token(enrolling_ca, f"operators/admin/{unique('bob')}")
    tokens = enrolling_ca.client(OPERATOR).tokens
    assert type(refused(lambda: tokens.revoke(of_admin.token_id.hex()))) is errors.TokenNotAllowed
    assert type(refused(lambda: tokens.revoke("00" * 16))) is errors.TokenNotFound


def test_the_list_shows_no_secret_and_every_state(enrolling_ca: RunningCa) -> None:
    open_one, revoked = new_token(enrolling_ca), new_token(enrolling_ca)
    enrolling_ca.client().tokens.revoke(revoked.token_id.hex())
    listed = list(enrolling_ca.client(AUDITOR).tokens.list(page_size=2))
    assert [one.name for one in listed] == sorted(one.name for one in listed)
    by_name = {one.name: one for one in listed}
    assert by_name[f"enrollmentTokens/{open_one.token_id.hex()}"].state is TokenState.OPEN
    assert by_name[f"enrollmentTokens/{revoked.token_id.hex()}"].state is TokenState.REVOKED
    assert by_name[f"enrollmentTokens/{open_one.token_id.hex()}"].creator == enrolling_ca.identity(ADMIN)
    assert open_one.secret.hex() not in repr(listed)


def test_a_repeated_request_gets_the_same_token_with_a_fresh_secret(enrolling_ca: RunningCa) -> None:
    identity = enrolling_ca.identity(path_for(Role.MEMBER))
    request_id = str(uuid.uuid4())
    tokens = enrolling_ca.client().tokens

    def make(identity: str = identity) -> EnrollmentToken:
        made = tokens.create(identity, address=address_of(enrolling_ca), request_id=request_id)
        return EnrollmentToken.parse(made.text)

    first, second = make(), make()
    assert first.token_id == second.token_id
    assert first.secret != second.secret
    with conversation(first) as talk:
        talk.hello()
        talk.challenge()
        talk.proof()
        assert type(refused(talk.result)) is errors.TokenRefused
    with conversation(second) as talk:
        talk.whole()
    assert type(refused(make)) is errors.TokenUsed
    other = enrolling_ca.identity(path_for(Role.MEMBER))
    assert type(refused(lambda: make(other))) is errors.RequestIdReused


def test_no_secret_of_a_token_is_on_disk(enrolling_ca: RunningCa) -> None:
    token = new_token(enrolling_ca)
    stored = enrolling_ca.read(lambda tx: tx.tokens.get(token.token_id))
    answered = enrolling_ca.read(lambda tx: repr(tx.tokens.get(token.token_id)))
    assert token.secret.hex() not in answered
    assert token.secret not in stored.sealed_keys
    for file in (enrolling_ca.directory / "ca").rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert token.secret not in content
            assert token.text().encode()[5:60] not in content


@pytest.mark.parametrize("kind", ["sqlite"])
def test_without_a_listener_no_tokens_are_made(kind: str, request: pytest.FixtureRequest) -> None:
    with running(kind, request, workers=1) as ca:
        assert ca.servings[0].enroll_port is None
        identity = ca.identity("members/web.example.test")
        assert type(refused(lambda: ca.client().tokens.create(identity))) is errors.EnrollmentOff


@pytest.mark.parametrize(
    "hello",
    [
        pb.EnrollHello(),
        pb.EnrollHello(token_id=bytes(15), client_nonce=bytes(32), client_time=1, release="x"),
        pb.EnrollHello(token_id=bytes(16), client_nonce=bytes(31), client_time=1, release="x"),
        pb.EnrollHello(token_id=bytes(16), client_nonce=bytes(32), client_time=-1, release="x"),
        pb.EnrollHello(token_id=bytes(16), client_nonce=bytes(32), client_time=1, release="x\n"),
        pb.EnrollHello(token_id=bytes(16), client_nonce=bytes(32), client_time=1, release="x" * 65),
    ],
)
def test_a_hello_that_is_none_is_refused(enrolling_ca: RunningCa, hello: pb.EnrollHello) -> None:
    with conversation(new_token(enrolling_ca)) as talk:
        talk.said.put(pb.EnrollRequest(hello=hello))
        assert type(refused(talk.hear)) is errors.FieldInvalid


def test_steps_out_of_order_and_long_calls_are_refused(enrolling_ca: RunningCa) -> None:
    token = new_token(enrolling_ca)
    with conversation(token) as talk:
        talk.said.put(pb.EnrollRequest(proof=pb.EnrollProof(csr=b"x", client_mac=b"y")))
        assert type(refused(talk.hear)) is errors.FieldInvalid
    with conversation(token, seconds=30) as talk:
        talk.hello()
        assert type(refused(talk.challenge)) is errors.DeadlineRequired
