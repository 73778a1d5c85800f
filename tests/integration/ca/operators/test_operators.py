"""Operators through the whole service, on both databases: invitation, change of role, removal, reused names."""

import json
import time
from dataclasses import replace
from hashlib import sha256

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve import Client, Name, errors
from keyreeve._blocking.enrollment import enroll
from keyreeve.ca.v1 import operator_service_pb2 as pb
from keyreeve.keys import load_certificates, make_csr, make_key
from keyreeve.status import error_from_rpc
from keyreeve.values import Invitation, OperatorRole, SignedCertificate
from keyreeve_ca import local_admin
from keyreeve_ca.issuance import name_policy
from keyreeve_ca.operators.ports import INVITATION_SECONDS
from keyreeve_ca.profiles.builtin import builtin_profiles
from keyreeve_ca.profiles.document import profile_from_canonical
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.settings import EnrollSettings
from support.running_ca import ADMIN, AUDITOR, MEMBERSHIP, OPERATOR, RunningCa, refused, running, server_csr
from support.waiting import wait_for

pytestmark = pytest.mark.sqlite_first

BEA = "operators/admin/bea"
CARL = "operators/operator/carl"


@pytest.fixture(params=["sqlite", "postgresql"])
def operators_ca(request: pytest.FixtureRequest):
    """A CA for one test that lets enrollees in."""
    with running(request.param, request, enroll=EnrollSettings(port=0)) as ca:
        yield ca


def invite(ca: RunningCa, name: str, role: OperatorRole, by: str = ADMIN, **options) -> Invitation:
    """What an admin does."""
    return ca.client(by).operators.invite(name, role, address=f"127.0.0.1:{ca.servings[0].enroll_port}", **options)


def accept(ca: RunningCa, invitation: Invitation, directory: str) -> Client:
    """What the invited person does."""
    client = Client(enroll(invitation.token, ca.directory / directory))
    ca._clients[directory, 0] = client
    return client


def is_out(client: Client) -> errors.KeyreeveError | None:
    try:
        client.authorities.bundle("control")
    except (errors.PeerOperatorUnknown, errors.PeerCertificateRevoked) as out:
        return out
    return None


def renewed(client: Client) -> SignedCertificate:
    [leaf, *_] = load_certificates(client.context.certificate)
    serial = f"{x509.load_der_x509_certificate(leaf).serial_number:032x}"
    return client.certificates.renew(serial, make_csr(make_key()))


def test_an_invited_operator_enrolls_and_another_role_is_another_certificate(operators_ca: RunningCa) -> None:
    ann = operators_ca.client(ADMIN)
    invitation = invite(operators_ca, "carl", OperatorRole.OPERATOR)
    assert invitation.operator.identity == operators_ca.identity(CARL)
    assert invitation.operator.invited_by == operators_ca.identity(ADMIN)
    carl = accept(operators_ca, invitation, "carl")
    assert carl.certificates.sign("server", server_csr("web.example.test"))
    assert isinstance(refused(lambda: carl.operators.invite("dora", OperatorRole.AUDITOR)), errors.AccessDenied)

    changed = ann.operators.update(
        "carl", OperatorRole.AUDITOR, address=f"127.0.0.1:{operators_ca.servings[0].enroll_port}"
    )
    assert changed.operator.person_uid == invitation.operator.person_uid
    wait_for("the old role is out", lambda: is_out(carl), 1.0)
    auditor = accept(operators_ca, changed, "carl-as-auditor")
    assert isinstance(refused(lambda: auditor.certificates.sign("server", server_csr("a.test"))), errors.AccessDenied)
    assert auditor.operators.get("carl").role is OperatorRole.AUDITOR
    assert is_out(carl)
    assert [operator.name for operator in auditor.operators.list(page_size=2)] == [
        "operators/ada",
        "operators/ann",
        "operators/carl",
        "operators/olaf",
    ]


def test_a_removed_person_is_refused_within_a_second_by_every_worker_and_in_open_streams(
    operators_ca: RunningCa,
) -> None:
    ann = operators_ca.client(ADMIN)
    clients = [operators_ca.client(CARL), operators_ca.client(CARL, worker=1)]
    stream = clients[0].authorities.watch_bundle("control")
    assert next(stream).roots_der
    removed = ann.operators.remove("carl")
    assert removed.removed_at is not None
    began = time.monotonic()
    for client in clients:
        wait_for("the person is out", lambda client=client: is_out(client), 1.0)
    with pytest.raises(errors.Unauthenticated):
        next(stream)
    assert time.monotonic() - began < 3.0
    assert isinstance(refused(lambda: ann.operators.get("carl")), errors.OperatorNotFound)
    assert isinstance(refused(lambda: ann.operators.remove("carl")), errors.OperatorNotFound)


def test_a_name_that_is_used_again_inherits_nothing(operators_ca: RunningCa) -> None:
    ann = operators_ca.client(ADMIN)
    first = invite(operators_ca, "carl", OperatorRole.OPERATOR)
    old = accept(operators_ca, first, "old-carl")
    late = invite(operators_ca, "carl", OperatorRole.OPERATOR)
    ann.operators.remove("carl")
    second = invite(operators_ca, "carl", OperatorRole.OPERATOR)
    assert second.operator.person_uid != first.operator.person_uid
    wait_for("the earlier person is out", lambda: is_out(old), 1.0)
    with pytest.raises(errors.KeyreeveError):
        enroll(late.token, operators_ca.directory / "late")
    assert accept(operators_ca, second, "new-carl").operators.get("carl").person_uid == second.operator.person_uid
    assert is_out(old)


def test_a_reused_name_gets_no_stored_response_of_the_earlier_person(operators_ca: RunningCa) -> None:
    ann = operators_ca.client(ADMIN)
    csr, same = server_csr("web.example.test"), "018f0000-0000-7000-8000-0000000000aa"
    document = ann.profiles.get("server").document
    old = accept(operators_ca, invite(operators_ca, "bea", OperatorRole.ADMIN), "old-bea")
    signed = old.certificates.sign("server", csr, request_id=same)
    made = old.profiles.create("web", document, request_id=same)
    assert old.certificates.sign("server", csr, request_id=same).serial == signed.serial
    assert old.profiles.create("web", document, request_id=same) == made
    ann.operators.remove("bea")
    new = accept(operators_ca, invite(operators_ca, "bea", OperatorRole.ADMIN), "new-bea")
    assert new.certificates.sign("server", csr, request_id=same).serial != signed.serial
    assert isinstance(refused(lambda: new.profiles.create("web", document, request_id=same)), errors.ProfileExists)


def test_a_reused_name_is_not_the_requester_of_the_earlier_persons_certificates(
    operators_ca: RunningCa,
) -> None:
    ann = operators_ca.client(ADMIN)
    old = accept(operators_ca, invite(operators_ca, "carl", OperatorRole.OPERATOR), "old-carl")
    key = make_key()
    signed = old.certificates.sign("server", make_csr(key, [Name.dns("web.example.test")]))
    ann.operators.remove("carl")
    operators_ca.clock.offset += 2
    new = accept(operators_ca, invite(operators_ca, "carl", OperatorRole.OPERATOR), "new-carl")
    again = make_csr(make_key(), [Name.dns("web.example.test")])
    told = refused(lambda: new.certificates.renew(signed.serial, again))
    assert isinstance(told, errors.CertificateNotFound)
    operators_ca.clock.offset += 2
    theirs = new.certificates.sign("server", make_csr(key, [Name.dns("web.example.test")]))
    told = refused(lambda: new.certificates.renew(theirs.serial, again))
    assert isinstance(told, errors.RenewalProofRequired), "it is theirs, and a new key needs a proof"


def test_certificates_renew_themselves_until_a_week_after_the_last_invitation(operators_ca: RunningCa) -> None:
    ann, bea = operators_ca.client(ADMIN), operators_ca.client(BEA)
    assert renewed(bea)

    def long_ago(tx):
        person = tx.operators.find("ann")
        tx.operators.update(replace(person, invited_at=operators_ca.clock.now() - INVITATION_SECONDS - 5))
        tx.bump_config()

    operators_ca.write(long_ago)
    identity, live = operators_ca.identity(ADMIN), operators_ca.servings[0].live
    wait_for("the worker has heard of it", lambda: live.current().operators[identity].renews_until < time.time())
    assert isinstance(_failure(ann), errors.InvitationExpired)
    told = refused(lambda: ann.operators.invite("ann", OperatorRole.ADMIN))
    assert isinstance(told, errors.SecondPersonRequired)
    bea.operators.invite("ann", OperatorRole.ADMIN, address="127.0.0.1:1")
    assert wait_for("the invitation is new", lambda: _failure(ann) is None)


def _failure(client: Client) -> errors.KeyreeveError | None:
    try:
        renewed(client)
    except errors.RenewalSuperseded:
        return None
    except errors.KeyreeveError as failure:
        return failure
    return None


def test_the_last_admin_can_neither_be_removed_nor_demoted_and_one_who_never_enrolled_does_not_count(
    operators_ca: RunningCa,
) -> None:
    ann = operators_ca.client(ADMIN)
    ghost = invite(operators_ca, "ghost", OperatorRole.ADMIN)
    assert isinstance(refused(lambda: ann.operators.remove("ann")), errors.LastAdmin)
    assert isinstance(refused(lambda: ann.operators.update("ann", OperatorRole.AUDITOR)), errors.LastAdmin)
    accept(operators_ca, ghost, "ghost")
    assert ann.operators.remove("ann").removed_at is not None


def test_what_a_demoted_admin_invited_is_worth_nothing(operators_ca: RunningCa) -> None:
    ann = operators_ca.client(ADMIN)
    operators_ca.client(BEA)
    invitation = invite(operators_ca, "carl", OperatorRole.OPERATOR, by=BEA)
    ann.operators.update("bea", OperatorRole.AUDITOR, address="127.0.0.1:1")
    with pytest.raises(errors.KeyreeveError):
        enroll(invitation.token, operators_ca.directory / "carl")


def test_a_repeated_invitation_has_one_record_and_a_token_that_works(operators_ca: RunningCa) -> None:
    request_id = "018f0000-0000-7000-8000-00000000abcd"
    first = invite(operators_ca, "carl", OperatorRole.OPERATOR, request_id=request_id)
    again = invite(operators_ca, "carl", OperatorRole.OPERATOR, request_id=request_id)
    assert again.operator == first.operator
    assert again.token != first.token
    with pytest.raises(errors.KeyreeveError):
        enroll(first.token, operators_ca.directory / "first")
    accept(operators_ca, again, "again")


def test_who_may_manage_operators(operators_ca: RunningCa) -> None:
    for path in (OPERATOR, AUDITOR, MEMBERSHIP):
        client = operators_ca.client(path)
        assert client.operators.get("ann").role is OperatorRole.ADMIN
        assert isinstance(refused(lambda client=client: client.operators.remove("ann")), errors.AccessDenied)
    ann = operators_ca.client(ADMIN)
    assert isinstance(refused(lambda: ann.operators.invite("Ann", OperatorRole.ADMIN)), errors.NameRefused)
    assert isinstance(refused(lambda: ann.operators.invite("olaf", OperatorRole.ADMIN)), errors.OperatorExists)
    told = refused(lambda: ann.certificates.sign("operator", make_csr(make_key())))
    assert isinstance(told, errors.ProfileNotAllowed), "an invitation is the only way to a person's certificate"


def _profile_of_people(**lifetime: str) -> str:
    """A document of an admin's own, by which admins would certify anybody they like."""
    whole = json.loads(builtin_profiles("example.test")["workload"][0])
    whole["requesters"] = ["operators/admin"]
    whole["lifetime"] |= lifetime
    whole["names"]["uri"]["templates"] = ["spiffe://{trust_domain}/operators/{role}/{name}"]
    return json.dumps(whole)


def test_no_profile_created_by_an_admin_issues_the_identity_of_an_operator(
    operators_ca: RunningCa, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = operators_ca.client(ADMIN)
    invite(operators_ca, "bea", OperatorRole.ADMIN)
    text = _profile_of_people(maximum="825d")
    told = refused(lambda: ann.profiles.create("mine", text))
    assert isinstance(told, errors.ProfileInvalid)
    assert {v.field for v in told.violations} == {"lifetime.maximum", "names.uri.templates[0]"}
    ann.profiles.create("mine", text.replace("operators/{role}", "workloads/{role}").replace("825d", "7d"))
    assert isinstance(refused(lambda: ann.profiles.update("mine", text, version=1)), errors.ProfileInvalid)

    # A release that was less strict may have stored it.
    stored = ProfileVersion("old", 1, sha256(text.encode()).digest(), text, profile_from_canonical(text))

    def store(tx):
        tx.add_profile_version(stored, operators_ca.clock.now(), operators_ca.identity(ADMIN))
        tx.bump_config()

    operators_ca.write(store)
    csr = make_csr(make_key(), [Name.uri(operators_ca.identity(BEA))])

    def answer() -> errors.KeyreeveError | None:
        told = refused(lambda: ann.certificates.sign("old", csr))
        return None if isinstance(told, errors.ProfileNotFound) else told

    assert isinstance(wait_for("the worker knows the profile", answer), errors.NameRefused)
    # Were policy mistaken, the last look before the signature would still refuse.
    monkeypatch.setattr(name_policy, "_identity_problem", lambda *_: None)
    assert isinstance(answer(), errors.FinalCheckFailed)


def test_what_the_local_socket_is_asked_for_is_in_the_audit_log(operators_ca: RunningCa) -> None:
    socket, address = operators_ca.settings.coordinator_socket, f"127.0.0.1:{operators_ca.servings[0].enroll_port}"
    report = operators_ca.run(local_admin.recover(socket, "dora", address))
    dora = Client(enroll(report["invitation"]["token"], operators_ca.directory / "dora"))
    operators_ca._clients["dora", 0] = dora
    assert dora.operators.get("dora").role is OperatorRole.ADMIN
    operators_ca.run(local_admin.first_operator(socket, "emil", make_csr(make_key())))

    def recorded() -> set[tuple[str, tuple[str, ...]]]:
        found = [logged.record for logged in operators_ca.client(AUDITOR).audit.list()]
        return {
            (r.method, tuple(v for _, v in r.targets)) for r in found if r.method.startswith("keyreeve/local-socket/")
        }

    wanted = {("keyreeve/local-socket/recover", ("dora",)), ("keyreeve/local-socket/first_operator", ("emil",))}
    wait_for("both are recorded", lambda: recorded() >= wanted, 10)


def public_line(comment: str = "") -> str:
    """A new key, as OpenSSH writes public ones."""
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    line = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return f"{line} {comment}".strip()


def test_keys_are_a_persons_own_for_as_long_as_they_are_there(operators_ca: RunningCa) -> None:
    ann, auditor = operators_ca.client(ADMIN), operators_ca.client(AUDITOR)
    address = f"127.0.0.1:{operators_ca.servings[0].enroll_port}"
    bea = accept(operators_ca, invite(operators_ca, "bea", OperatorRole.ADMIN), "bea")
    first, second = public_line("a laptop"), public_line()
    given = ann.operators.update("bea", keys=[first, second])
    assert (given.token, given.token_expires_at) == ("", None)
    assert not is_out(bea), "keys do not touch certificates"
    assert {key.public_key for key in given.operator.keys} == {first, second}
    assert {key.added_by for key in given.operator.keys} == {operators_ca.identity(ADMIN)}
    assert auditor.operators.get("bea") == given.operator
    assert next(one for one in auditor.operators.list() if one.name == "operators/bea") == given.operator

    taken = refused(lambda: ann.operators.update("olaf", keys=[public_line(), first]))
    assert isinstance(taken, errors.KeyReused)
    assert auditor.operators.get("olaf").keys == ()
    own = refused(lambda: ann.operators.update("ann", keys=[public_line()]))
    assert isinstance(own, errors.SecondPersonRequired)
    assert isinstance(refused(lambda: bea.operators.update("bea", keys=[])), errors.SecondPersonRequired)

    changed = ann.operators.update("bea", OperatorRole.AUDITOR, keys=[first.replace("laptop", "desk")], address=address)
    assert changed.token
    [kept] = changed.operator.keys
    assert kept.public_key.endswith(" a desk")
    assert kept.added_at == next(k.added_at for k in given.operator.keys if k.fingerprint == kept.fingerprint)
    assert ann.operators.update("bea", OperatorRole.OPERATOR, address=address).operator.keys == (kept,)
    assert ann.operators.remove("bea").keys == ()
    assert invite(operators_ca, "bea", OperatorRole.ADMIN).operator.keys == ()
    assert ann.operators.update("olaf", keys=[first]).operator.keys
    assert ann.operators.update("olaf", keys=[]).operator.keys == ()


def test_an_update_says_what_changes_and_says_it_again_the_same(operators_ca: RunningCa) -> None:
    ann = operators_ca.client(ADMIN)
    assert isinstance(refused(lambda: ann.operators.update("olaf")), errors.FieldInvalid)
    many = [public_line() for _ in range(17)]
    assert isinstance(refused(lambda: ann.operators.update("olaf", keys=many)), errors.FieldInvalid)
    assert isinstance(refused(lambda: ann.operators.update("nobody", keys=many[:1])), errors.OperatorNotFound)
    request_id = "018f0000-0000-7000-8000-00000000abce"
    once = ann.operators.update("olaf", keys=many[:16], request_id=request_id)
    ann.operators.update("olaf", keys=[])
    assert ann.operators.update("olaf", keys=many[:16], request_id=request_id) == once
    other = refused(lambda: ann.operators.update("olaf", keys=many[:15], request_id=request_id))
    assert isinstance(other, errors.RequestIdReused)
    assert ann.operators.get("olaf").keys == ()

    channel = operators_ca.channel(ADMIN)
    update = channel.unary_unary(
        "/keyreeve.ca.v1.OperatorService/UpdateOperator",
        request_serializer=pb.UpdateOperatorRequest.SerializeToString,
        response_deserializer=pb.UpdateOperatorResponse.FromString,
    )
    unmasked = pb.UpdateOperatorRequest(name="operators/olaf", keys=many[:1], request_id=request_id[:-1] + "f")
    with pytest.raises(grpc.RpcError) as caught:
        update(unmasked, timeout=20)
    assert error_from_rpc(caught.value, "ca").reason == "FIELD_INVALID", "keys that no mask names are a mistake"
    del unmasked.keys[:]
    unmasked.role = pb.OPERATOR_ROLE_AUDITOR
    unmasked.address = "127.0.0.1:1"
    assert update(unmasked, timeout=20).token, "who knows of no mask changes the role"


def test_the_audit_log_has_the_fingerprints_of_keys_and_nothing_that_was_sent(operators_ca: RunningCa) -> None:
    ann, secret = operators_ca.client(ADMIN), "hunter2-hunter2"
    line = public_line(secret)
    [key] = ann.operators.update("olaf", keys=[line]).operator.keys
    private = f"-----BEGIN OPENSSH PRIVATE KEY----- {secret}"
    assert isinstance(refused(lambda: ann.operators.update("olaf", keys=[private])), errors.FieldInvalid), "not sent"
    assert isinstance(refused(lambda: ann.operators.update("olaf", keys=[secret])), errors.KeyTypeRefused)

    def recorded() -> list[str]:
        found = [logged.record for logged in operators_ca.client(AUDITOR).audit.list()]
        texts = [str(record) for record in found if record.method.endswith("UpdateOperator")]
        return texts if len(texts) == 2 else []

    texts = wait_for("all are recorded", recorded, 10)
    assert secret not in "".join(texts)
    assert sum(key.fingerprint in text for text in texts) == 1
