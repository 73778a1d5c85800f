"""Attacks on enrollment: in the middle, with half of a token, late or repeated; none succeeds or learns anything."""

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from google.protobuf.message import Message

import keyreeve
from keyreeve import errors
from keyreeve.ca.v1 import enrollment_service_pb2 as pb
from keyreeve.ca.v1 import enrollment_service_pb2_grpc as stubs
from keyreeve.enrollment import enroll
from keyreeve.enrollment_token import RETRY_SECONDS, EnrollmentToken
from keyreeve.keys import load_key, make_csr, make_key
from keyreeve.token_values import TokenState
from keyreeve.values import CrlReason, Name, to_pem
from support.enrolling import conversation, enrolling_ca, new_token
from support.man_in_the_middle import Change, in_the_middle
from support.peer_certificates import TestCa
from support.running_ca import RunningCa, refused, unique
from support.waiting import wait_for

pytestmark = pytest.mark.faults

__all__ = ["enrolling_ca"]


@pytest.fixture
def ca(enrolling_ca: RunningCa) -> Iterator[RunningCa]:
    yield enrolling_ca
    enrolling_ca.clock.offset = 0


def state_of(ca: RunningCa, token: EnrollmentToken) -> str:
    return ca.read(lambda tx: tx.tokens.get(token.token_id)).state.value


def certificates_for(ca: RunningCa, token: EnrollmentToken) -> int:
    return len(list(ca.client().certificates.list(identity=str(token.identity))))


# --- A man in the middle ----------------------------------------------------------------------------------------------


def unchanged(message: Message) -> Message:
    return message


def changing(step: str, **fields: object) -> Change:
    """Replace fields of one of the four messages."""

    def change(message: Message) -> Message:
        if message.WhichOneof("step") == step:
            part = getattr(message, step)
            for name, value in fields.items():
                made = value(getattr(part, name)) if callable(value) else value
                if isinstance(made, list):
                    part.ClearField(name)
                    getattr(part, name).extend(made)
                else:
                    setattr(part, name, made)
        return message

    return change


def flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


def test_a_man_in_the_middle_who_relays_learns_no_secret_and_gets_no_certificate(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    with in_the_middle(ca, token, unchanged) as (led_astray, middle):
        context = enroll(led_astray, tmp_path)
    relayed = b"".join(message.SerializeToString() for message in middle.passed)
    assert len(middle.passed) == 4
    assert token.secret not in relayed
    assert context.key.read_bytes() not in relayed
    certified = x509.load_der_x509_certificate(middle.passed[-1].result.chain_der[0])
    assert certified.public_key() == load_key(context.key).public_key()
    assert certificates_for(ca, token) == 1


REFUSED_BY_THE_ENROLLEE = {
    "its nonce": changing("hello", client_nonce=flipped),
    "its time": changing("hello", client_time=lambda was: was + 5),
    "its release": changing("hello", release="other/1"),
    "the service's nonce": changing("challenge", server_nonce=flipped),
    "the service's time": changing("challenge", server_time=lambda was: was + 3600),
    "the name": changing("challenge", identity=lambda was: was.replace("members/", "members/x")),
    "the trust root": changing("challenge", trust_root=b"{}"),
    "the service's proof": changing("challenge", server_mac=flipped),
    "the certificate": changing("result", chain_der=[b"other", b"chain"]),
    "the certificate's issuer": changing("result", chain_der=lambda was: [was[0]]),
    "the trust root of the result": changing("result", trust_root=b"{}"),
    "the roots": changing("result", roots_der=[b"another root"]),
    "one root more": changing("result", roots_der=lambda was: [*was, was[0]]),
    "the proof of the roots": changing("result", roots_mac=flipped),
    "the result's proof": changing("result", result_mac=flipped),
}


@pytest.mark.parametrize("what", REFUSED_BY_THE_ENROLLEE)
def test_an_enrollee_refuses_what_was_changed_on_its_way(ca: RunningCa, tmp_path: Path, what: str) -> None:
    token = new_token(ca)
    with (
        in_the_middle(ca, token, REFUSED_BY_THE_ENROLLEE[what]) as (led_astray, _),
        pytest.raises(errors.EnrollmentServerUnproven),
    ):
        enroll(led_astray, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"key.pem"}, "nothing of what came is kept"
    enroll(token, tmp_path)


def test_the_service_refuses_an_id_that_was_changed_on_its_way(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    with (
        in_the_middle(ca, token, changing("hello", token_id=flipped)) as (led_astray, _),
        pytest.raises(errors.TokenRefused),
    ):
        enroll(led_astray, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"key.pem"}


def test_the_service_refuses_another_request_under_the_enrollees_proof(ca: RunningCa, tmp_path: Path) -> None:
    token, thief = new_token(ca), make_csr(make_key())
    with in_the_middle(ca, token, changing("proof", csr=thief)) as (led_astray, _), pytest.raises(errors.TokenRefused):
        enroll(led_astray, tmp_path)
    assert state_of(ca, token) == TokenState.OPEN
    assert certificates_for(ca, token) == 0


def test_a_server_with_another_root_is_found_out_before_anything_is_said(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    other_root = replace(token, root_sha256=secrets.token_bytes(32))
    with pytest.raises(errors.EnrollmentRootWrong):
        enroll(other_root, tmp_path)
    assert state_of(ca, token) == TokenState.OPEN


def test_a_server_that_shows_the_right_root_without_its_key_is_not_believed(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    root = ca.coordinator.issuance.snapshot().authorities["control-root-1"].certificate_der
    impostor = TestCa.root("an impostor").leaf(dns=[token.server_name])
    with in_the_middle(ca, token, unchanged) as (_, middle):
        server = grpc.server(ThreadPoolExecutor(2))
        stubs.add_EnrollmentServiceServicer_to_server(middle, server)
        chain = impostor.chain_pem + to_pem([root]).encode()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(impostor.key_pem, chain)]))
        server.start()
        with pytest.raises(errors.ServiceUnreachable):
            enroll(replace(token, address=f"127.0.0.1:{port}"), tmp_path, timeout=1.5)
        server.stop(0).wait()
    assert middle.passed == []


def test_nothing_that_was_said_once_can_be_said_again(ca: RunningCa) -> None:
    token = new_token(ca)
    with conversation(token) as first:
        first.whole()
    with conversation(token) as again:
        again.hello(client_nonce=first.said_hello.client_nonce, client_time=first.said_hello.client_time)
        assert again.challenge().server_nonce != first.heard.server_nonce
        again.proof(first.csr, first.mac)
        assert type(refused(again.result)) is errors.TokenRefused


@pytest.mark.parametrize("mac", ["server_mac", "zeros", "empty", "short", "result key"])
def test_a_proof_made_of_what_was_heard_is_refused(ca: RunningCa, mac: str) -> None:
    token = new_token(ca)
    with conversation(token) as talk:
        talk.hello()
        heard = talk.challenge()
        swapped = replace(talk.keys, client=talk.keys.result)
        made = {
            "server_mac": heard.server_mac,
            "zeros": bytes(32),
            "empty": b"",
            "short": talk.transcript().client_mac(talk.keys, heard.server_mac, talk.csr)[:16],
            "result key": talk.transcript().client_mac(swapped, heard.server_mac, talk.csr),
        }[mac]
        talk.said.put(pb.EnrollRequest(proof=pb.EnrollProof(csr=talk.csr, client_mac=made)))
        assert type(refused(talk.result)) is errors.TokenRefused
    assert state_of(ca, token) == TokenState.OPEN


# --- Lost answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", ["nothing", "hello", "challenge", "proof", "result"])
def test_the_same_key_gets_the_same_certificate_whenever_the_connection_was_cut(ca: RunningCa, after: str) -> None:
    token, key = new_token(ca), make_key()
    first = None
    with conversation(token, key=key) as talk:
        if after != "nothing":
            talk.hello()
        if after in {"challenge", "proof", "result"}:
            talk.challenge()
        if after in {"proof", "result"}:
            talk.proof()
        if after == "result":
            first = list(talk.result().chain_der)
    with conversation(token, key=key) as talk:
        second = list(talk.whole().chain_der)
    with conversation(token, key=key) as talk:
        third = list(talk.whole().chain_der)
    assert second == third
    assert first in (None, second)
    assert certificates_for(ca, token) == 1


@pytest.mark.parametrize("step", ["hello", "challenge", "proof", "result"])
def test_the_enrollee_tries_again_by_itself_when_it_is_cut_off(ca: RunningCa, tmp_path: Path, step: str) -> None:
    token, cuts = new_token(ca), [step]

    def cut(message: Message) -> Message | None:
        if cuts and message.WhichOneof("step") == cuts[0]:
            cuts.pop()
            return None
        return message

    with in_the_middle(ca, token, cut) as (led_there, _):
        enroll(led_there, tmp_path)
    assert cuts == []
    assert certificates_for(ca, token) == 1


def test_another_key_is_refused_and_reported(ca: RunningCa, caplog: pytest.LogCaptureFixture) -> None:
    token = new_token(ca)
    with conversation(token) as talk:
        talk.whole()
    with conversation(token) as talk:
        told = refused(talk.whole)
    assert type(told) is errors.TokenUsed
    assert told.metadata["certificate"]
    assert any("a second key came" in record.getMessage() for record in caplog.records)
    assert certificates_for(ca, token) == 1


def test_the_same_key_is_too_late_after_a_quarter_of_an_hour(ca: RunningCa) -> None:
    token, key = new_token(ca), make_key()
    with conversation(token, key=key) as talk:
        talk.whole()
    for seconds, answer in ((RETRY_SECONDS - 10, None), (RETRY_SECONDS + 1, errors.TokenUsed)):
        ca.clock.offset = seconds
        with conversation(token, key=key, clock=ca.clock.now) as talk:
            if answer is None:
                talk.whole()
            else:
                assert type(refused(talk.whole)) is answer


# --- Tokens that are worth nothing ------------------------------------------------------------------------------------


def test_an_expired_token_is_refused_even_with_its_secret(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    ca.clock.offset = 3600
    with pytest.raises(errors.TokenExpired):
        enroll(token, tmp_path, now=ca.clock.now)
    assert certificates_for(ca, token) == 0


def test_a_revoked_token_is_refused_even_with_its_secret(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    assert ca.client().tokens.revoke(token.token_id.hex()).state is TokenState.REVOKED
    with pytest.raises(errors.TokenRevoked):
        enroll(token, tmp_path)


def test_a_token_whose_creator_was_revoked_enrolls_nobody(ca: RunningCa, tmp_path: Path) -> None:
    maker = f"operators/operator/{unique('olga')}"
    used, unused = new_token(ca, by=maker), new_token(ca, by=maker)
    enroll(used, tmp_path / "before")
    certificate = x509.load_pem_x509_certificate(ca.context(maker).certificate.read_bytes())
    ca.client().certificates.revoke(f"{certificate.serial_number:032x}", CrlReason.PRIVILEGE_WITHDRAWN)
    with pytest.raises(errors.TokenRevoked):
        enroll(unused, tmp_path / "after")
    assert certificates_for(ca, unused) == 0


def test_a_refused_request_does_not_use_the_token_up(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    key = make_key()
    for csr, reason in (
        (make_csr(key, [Name.uri(ca.identity("operators/admin/eve"))]), errors.NameRefused),
        (make_csr(key, common_name="admin"), errors.SubjectRefused),
        (b"no request at all", errors.CsrMalformed),
        (make_csr(key)[:-1] + b"\x00", errors.CsrSignatureInvalid),
    ):
        with conversation(token) as talk:
            talk.hello()
            talk.challenge()
            talk.proof(csr)
            assert type(refused(talk.result)) is reason
    assert state_of(ca, token) == TokenState.OPEN
    enroll(token, tmp_path)


def test_a_key_of_another_identity_is_refused_and_does_not_use_the_token_up(ca: RunningCa, tmp_path: Path) -> None:
    first, second, key = new_token(ca), new_token(ca), make_key()
    with conversation(first, key=key) as talk:
        talk.whole()
    with conversation(second, key=key) as talk:
        assert type(refused(talk.whole)) is errors.KeyReused
    assert state_of(ca, second) == TokenState.OPEN
    enroll(second, tmp_path)


@pytest.mark.parametrize("offset", [-61, -600, 61, 600])
def test_a_clock_that_is_off_is_refused_by_either_side(ca: RunningCa, tmp_path: Path, offset: int) -> None:
    token = new_token(ca)
    with pytest.raises(errors.ClockSkewed) as caught:
        enroll(token, tmp_path, now=lambda: time.time() + offset)
    assert abs(int(caught.value.metadata["server_time"]) - time.time()) < 10
    with conversation(token, clock=lambda: time.time() + offset) as talk:
        assert type(refused(talk.whole)) is errors.ClockSkewed
    assert state_of(ca, token) == TokenState.OPEN
    enroll(token, tmp_path, now=lambda: time.time() + 50 * (1 if offset > 0 else -1))


# --- Without the secret -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["open", "revoked", "bound"])
def test_without_its_secret_every_known_token_is_refused_with_one_answer(ca: RunningCa, state: str) -> None:
    token = new_token(ca)
    if state == "revoked":
        ca.client().tokens.revoke(token.token_id.hex())
    elif state == "bound":
        with conversation(token) as talk:
            talk.whole()
    with conversation(replace(token, secret=bytes(32))) as talk:
        told = refused(talk.whole)
    assert type(told) is errors.TokenRefused
    assert frozenset(told.metadata) == {"request_id"}
    assert state_of(ca, token) == state


def test_an_unknown_id_is_refused_at_once_for_the_same_reason(ca: RunningCa) -> None:
    known = new_token(ca)
    with conversation(replace(known, secret=bytes(32))) as talk:
        wrong_secret = refused(talk.whole)
    with conversation(replace(known, token_id=secrets.token_bytes(16))) as talk:
        talk.hello()
        told = refused(talk.challenge)
    assert type(told) is type(wrong_secret) is errors.TokenRefused
    assert told.message == wrong_secret.message


def test_a_token_whose_keys_were_erased_is_refused_as_unknown(ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(ca)
    with keyreeve.Client(enroll(token, tmp_path)) as enrolled:
        enrolled.authorities.bundle("control")
    wait_for("the first call has closed the token", lambda: state_of(ca, token) == TokenState.CLOSED)
    with conversation(token) as talk:
        talk.hello()
        assert type(refused(talk.challenge)) is errors.TokenRefused
