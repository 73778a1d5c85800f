"""Every method of the contract, done well, repeated, refused and misunderstood: exactly one record of each call.

The methods are those of the generated descriptors: a new one fails here until a valid call of it is added.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import keyreeve
from keyreeve.enrollment import enroll
from keyreeve.keys import make_csr, make_key
from keyreeve.proof_wire import to_certificate_proof
from keyreeve.values import AuthorityKind, Hierarchy, Order
from support.contract import ENROLL, METHODS, ROWS
from support.device import Device
from support.enrolling import OPEN_TO_TESTS, address_of
from support.gateway_sessions import GATEWAY, Gateway
from support.running_ca import ADMIN, AUDITOR, MEMBER, MEMBERSHIP, OPERATOR, RunningCa, document, running, server_csr
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

SECRET_WORDS = ("secret", "password", "csr", "key", "document", "proof", "mac", "signature", "token")
RENEWING = "members/renewing.example.test"


MUTATIONS = {name for name, method in METHODS.items() if "request_id" in method.input_type.fields_by_name}


@dataclass
class Walk:
    """The calls so far."""

    ca: RunningCa
    directory: Path
    answers: dict[str, Any] = field(default_factory=dict)
    """The answer, or the first of a stream, by the last part of the method's name."""
    expected: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Method and status by the id of the call."""

    def call(self, who: str, method: str, request: bytes) -> None:
        """Call, a gateway with the ticket that it has got; read the first message of a stream and leave."""
        told, identifier = METHODS[method], uuid.uuid4().hex
        channel, metadata = self.ca.channel(who), [("x-request-id", identifier)]
        if who == GATEWAY and "OpenSession" in self.answers and told.name != "OpenSession":
            metadata.append(("keyreeve-ticket-bin", self.answers["OpenSession"].ticket))
        code = grpc.StatusCode.OK
        try:
            if told.client_streaming:
                answer = next(channel.stream_stream(method)(iter(()), timeout=20, metadata=metadata))
            elif told.server_streaming:
                stream = channel.unary_stream(method)(request, timeout=20, metadata=metadata)
                answer = next(stream)
                stream.cancel()
            else:
                answer = channel.unary_unary(method)(request, timeout=20, metadata=metadata)
            self.answers[told.name] = GetMessageClass(told.output_type).FromString(answer)
        except grpc.RpcError as error:
            code = error.code()
        self.expected[identifier] = (method, code.name)

    def serial(self, path: str) -> str:
        certificate = self.ca.context(path).certificate.read_bytes()
        return f"{x509.load_pem_x509_certificates(certificate)[0].serial_number:032x}"

    def check(self) -> None:
        """One record of each call, of that method, with what became of it."""

        def all_there() -> list[Any] | None:
            found = [one.record for one in self.ca.client(AUDITOR).audit.list()]
            ours = [record for record in found if record.call_id in self.expected]
            return ours if len(ours) >= len(self.expected) else None

        records = wait_for("a record of every call", all_there)
        counts = Counter(record.call_id for record in records)
        assert {self.expected[one] for one, count in counts.items() if count != 1} == set()
        for record in records:
            assert (record.method, record.code) == self.expected[record.call_id]


SSH_KEY = Device(ed25519.Ed25519PrivateKey.generate()).line
Request = Callable[[Walk], dict[str, Any]]
SIGN = {"profile": "profiles/server", "csr": server_csr("web.example.test")}
AUTHORITY = {
    "hierarchy": "HIERARCHY_ESTATE",
    "kind": "AUTHORITY_KIND_INTERMEDIATE",
    "issuer": "authorities/estate-root-1",
    "common_name": "Another",
    "key_type": "AUTHORITY_KEY_TYPE_P256",
}


def named(name: str) -> Request:
    return lambda _: {"name": name}


def named_by(method: str) -> Request:
    """The resource that a call before this one has made."""
    return lambda walk: {"name": walk.answers[method].name}


def order(step: int) -> dict[str, object]:
    return {"rotation": 1, "step": step, "fence": 1, "owner_nonce": "nonce"}


def member(walk: Walk) -> dict[str, object]:
    return {
        "member_uid": "uid-1",
        "identity": walk.ca.identity("members/recorded.example.test"),
        "array": "arrays/recorded",
        "state": "MEMBER_STATE_MEMBER",
    }


def of_array(walk: Walk, step: int) -> dict[str, object]:
    """The authority of an array, which is pending."""
    made = walk.ca.client(MEMBERSHIP).authorities.create(
        f"array-{step}",
        hierarchy=Hierarchy.STANDALONE,
        kind=AuthorityKind.ROOT,
        owner=f"arrays/recorded-{step}",
        common_name=f"Array {step}",
        order=Order(1, 1, 1, "nonce"),
    )
    return {"name": made.name, "order": order(step)}


# How each method is called well, in an order in which each finds what it needs: by whom, and with what.
GOOD: dict[str, tuple[str, Request]] = {
    "CreateAuthority": (ADMIN, lambda _: {"authority_id": "estate-issuing-9", "authority": AUTHORITY}),
    "GetAuthority": (ADMIN, named("authorities/estate-issuing-9")),
    "ListAuthorities": (OPERATOR, lambda _: {}),
    "IntroduceAuthority": (MEMBERSHIP, lambda walk: of_array(walk, 2)),
    "DestroyAuthority": (MEMBERSHIP, lambda walk: of_array(walk, 3)),
    "ActivateAuthority": (ADMIN, named("authorities/estate-issuing-9")),
    "RetireAuthority": (ADMIN, named("authorities/estate-issuing-9")),
    "RevokeAuthority": (
        ADMIN,
        lambda _: {"name": "authorities/estate-issuing-9", "reason": "CRL_REASON_SUPERSEDED"},
    ),
    "ExportAuthority": (MEMBER, named("authorities/estate-issuing-1")),
    "GetBundle": (MEMBER, named("bundles/control")),
    "WatchBundle": (MEMBER, named("bundles/control")),
    "CreateProfile": (ADMIN, lambda _: {"profile_id": "recorded", "profile": {"document": document()}}),
    "GetProfile": (OPERATOR, named("profiles/recorded")),
    "ListProfiles": (OPERATOR, lambda _: {}),
    "UpdateProfile": (
        ADMIN,
        lambda walk: {
            "profile": {
                "name": "profiles/recorded",
                "version": walk.answers["CreateProfile"].version,
                "document": document(description="Changed."),
            }
        },
    ),
    "SimulateProfile": (ADMIN, lambda _: {"name": "profiles/recorded", "document": document()}),
    "SignCertificate": (OPERATOR, lambda _: {"item": SIGN}),
    "SignCertificates": (OPERATOR, lambda _: {"items": [SIGN, SIGN]}),
    "RenewCertificate": (
        RENEWING,
        lambda walk: {"name": f"certificates/{walk.serial(RENEWING)}", "csr": make_csr(make_key())},
    ),
    "GetCertificate": (OPERATOR, lambda walk: {"name": walk.answers["SignCertificate"].certificate.name}),
    "ListCertificates": (OPERATOR, lambda _: {}),
    "WatchRevokedCertificates": (ADMIN, lambda _: {}),
    "ApproveOperatorChange": (ADMIN, lambda _: {"operator_id": "bea", "role": "OPERATOR_ROLE_ADMIN"}),
    "BlockKey": (OPERATOR, lambda _: {"spki_sha256": bytes(32), "reason": "a test"}),
    "ListBlockedKeys": (AUDITOR, lambda _: {}),
    "UnblockKey": (ADMIN, named_by("BlockKey")),
    "RevokeCertificate": (
        OPERATOR,
        lambda walk: {
            "name": walk.answers["SignCertificate"].certificate.name,
            "reason": "CRL_REASON_SUPERSEDED",
        },
    ),
    "GetRevocationList": (OPERATOR, named("authorities/estate-issuing-1/revocationLists/0")),
    "WatchCallers": (MEMBERSHIP, lambda _: {}),
    "SetMembers": (
        MEMBERSHIP,
        lambda walk: {"array": "arrays/recorded", "order": order(1), "members": [member(walk)]},
    ),
    "RevokeCertificates": (
        ADMIN,
        lambda _: {"profile": "profiles/recorded", "reason": "CRL_REASON_SUPERSEDED"},
    ),
    "GetOperation": (ADMIN, named_by("RevokeCertificates")),
    "ListOperations": (ADMIN, lambda _: {}),
    "WatchOperation": (ADMIN, named_by("RevokeCertificates")),
    "CancelOperation": (ADMIN, named_by("RevokeCertificates")),
    "CreateEnrollmentToken": (
        ADMIN,
        lambda walk: {
            "identity": walk.ca.identity("workloads/recorded"),
            "address": address_of(walk.ca),
        },
    ),
    "ListEnrollmentTokens": (OPERATOR, lambda _: {}),
    "RevokeEnrollmentToken": (
        ADMIN,
        lambda walk: {"name": walk.answers["CreateEnrollmentToken"].enrollment_token.name},
    ),
    "InviteOperator": (
        ADMIN,
        lambda walk: {"operator_id": "carl", "role": "OPERATOR_ROLE_AUDITOR", "address": address_of(walk.ca)},
    ),
    "GetOperator": (ADMIN, named("operators/carl")),
    "ListOperators": (ADMIN, lambda _: {}),
    "UpdateOperator": (
        ADMIN,
        lambda walk: {"name": "operators/carl", "role": "OPERATOR_ROLE_OPERATOR", "address": address_of(walk.ca)},
    ),
    "RegisterSshKey": (ADMIN, lambda _: {"operator": "operators/carl", "public_key": SSH_KEY}),
    "ListSshKeys": (ADMIN, lambda _: {"operator": "operators/carl"}),
    "RemoveSshKey": (
        ADMIN,
        lambda walk: {
            "operator": "operators/carl",
            "fingerprint": walk.answers["RegisterSshKey"].key.fingerprint,
        },
    ),
    "RemoveOperator": (ADMIN, named("operators/carl")),
    "HaltIssuance": (OPERATOR, lambda _: {"reason": "a test"}),
    "GetIssuanceState": (OPERATOR, lambda _: {}),
    "ResumeIssuance": (ADMIN, lambda _: {"reason": "the test is over"}),
    "OpenSession": (GATEWAY, lambda walk: {"certificate": to_certificate_proof(Gateway(walk.ca).proof(OPERATOR))}),
    "RenewSession": (GATEWAY, lambda _: {}),
    "ListSessions": (GATEWAY, lambda _: {}),
    "AppendVerbRecord": (
        GATEWAY,
        lambda walk: {"verb": "array join", "subject": walk.ca.identity(OPERATOR), "code": "OK"},
    ),
    "CloseSession": (OPERATOR, lambda walk: {"name": walk.answers["OpenSession"].session.name}),
    "GetCheckpoint": (AUDITOR, lambda _: {}),
    "VerifyAuditChain": (AUDITOR, lambda _: {}),
    "ListAuditEntries": (AUDITOR, lambda _: {}),
    "ListAuditRecords": (AUDITOR, lambda _: {}),
}


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def recording_ca(request: pytest.FixtureRequest) -> Iterator[RunningCa]:
    """A CA with a listener for enrollees, which has a checkpoint and its lists; tests leave issuance as it was."""
    with running(request.param, request, workers=1, enroll=OPEN_TO_TESTS) as ca:
        auditor, operator = ca.client(AUDITOR), ca.client(OPERATOR)
        for there in (auditor.audit.checkpoint, partial(operator.certificates.revocation_list, "estate-issuing-1")):
            wait_for("what is made in the background", lambda there=there: made(there))
        yield ca


@pytest.fixture
def walk(recording_ca: RunningCa, tmp_path: Path) -> Walk:
    return Walk(recording_ca, tmp_path)


def made(look: Callable[[], object]) -> object:
    try:
        return look()
    except keyreeve.errors.NotFound:
        return None


def test_the_walks_know_every_method_of_the_contract() -> None:
    known = {*GOOD, "Enroll", "ExchangeServiceAccountToken", "RenewExpired"}
    assert {name.rpartition("/")[2] for name in METHODS} == known
    assert set(ROWS) == set(METHODS)


def test_every_call_that_succeeds_leaves_exactly_one_record_and_so_does_its_repetition(walk: Walk) -> None:
    paths = {name.rpartition("/")[2]: name for name in METHODS}
    for name, (who, request) in GOOD.items():
        method = paths[name]
        message: Message = GetMessageClass(METHODS[method].input_type)(**request(walk))
        if method in MUTATIONS:
            message.request_id = str(uuid.uuid4())  # type: ignore[attr-defined]
        for _ in range(2 if method in MUTATIONS else 1):
            walk.call(who, method, message.SerializeToString())
    failed = {method: code for method, code in walk.expected.values() if code != "OK"}
    assert failed == {}
    walk.check()


def test_an_enrollment_leaves_exactly_one_record(walk: Walk) -> None:
    token = walk.ca.client().tokens.create(walk.ca.identity("workloads/recorded"), address=address_of(walk.ca))
    enroll(token.text, walk.directory / "enrollee")
    auditor = walk.ca.client(AUDITOR).audit
    wait_for("its record", lambda: list(auditor.list(method=ENROLL, code="OK")))
    settled = auditor.checkpoint().checkpoint.k
    wait_for("another checkpoint", lambda: auditor.checkpoint().checkpoint.k > settled)
    assert len(list(auditor.list(method=ENROLL, code="OK"))) == 1


def path_of(role: str) -> str:
    return {"workloads": "workloads/billing/api", "members": MEMBER}.get(role, f"{role}/one")


def test_every_call_that_is_refused_or_makes_no_sense_leaves_exactly_one_record(walk: Walk) -> None:
    for method, row in ROWS.items():
        # Enrollees have no identity: the listener that requires certificates does not serve Enroll.
        allowed = min((role.value for role in row.roles), default="members")
        for who in {path_of(allowed), MEMBER}:
            walk.call(who, method, b"")
            walk.call(who, method, b"\xff")
    assert {"PERMISSION_DENIED", "INVALID_ARGUMENT"} <= {code for _, code in walk.expected.values()}
    walk.check()


@pytest.mark.parametrize("method", sorted(ROWS))
def test_no_method_records_what_could_be_a_secret(method: str) -> None:
    for path in ROWS[method].records:
        last = path.rpartition(".")[2]
        assert not any(word in last.split("_") for word in SECRET_WORDS), path
