"""SignCertificates, and repeated requests, which get the same bytes from every process."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
from cryptography import x509

from keyreeve import Name, SignItem, errors
from keyreeve.ca.v1 import certificate_service_pb2 as pb
from keyreeve.ca.v1 import certificate_service_pb2_grpc as stubs
from keyreeve.keys import make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.status import error_from_rpc
from keyreeve.values import Authority, AuthorityKind, Hierarchy, SignedCertificate
from support.running_ca import ADMIN, OPERATOR, WORKLOAD, RunningCa, document, refused, server_csr, some_key, unique

GOOD = SignItem("server", server_csr("web.example.test"))
BAD = SignItem("server", server_csr("ca.svc.example.test"))


def signed(outcomes: list[SignedCertificate | errors.KeyreeveError]) -> list[SignedCertificate]:
    return [o for o in outcomes if isinstance(o, SignedCertificate)]


# --- Batches ------------------------------------------------------------------------------------------------------------


def test_one_item_is_a_batch(ca: RunningCa):
    [outcome] = signed(ca.client().certificates.sign_many([GOOD]))
    assert outcome.certificate_der == ca.client().certificates.get(outcome.serial).certificate_der
    assert outcome.chain_der == (ca.client().authorities.get(outcome.authority).certificate_der,)


def test_a_hundred_items_keep_their_order(ca: RunningCa):
    names = [f"n{i}.example.test" for i in range(100)]
    outcomes = ca.client().certificates.sign_many([SignItem("server", server_csr(), (Name.dns(n),)) for n in names])
    found = [x509.load_der_x509_certificate(o.certificate_der) for o in signed(outcomes)]
    sans = [c.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for c in found]
    assert [san.get_values_for_type(x509.DNSName) for san in sans] == [[n] for n in names]
    assert len({c.serial_number for c in found}) == 100


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_of_none_or_too_many_is_refused_as_a_whole(ca: RunningCa, count: int):
    told = refused(lambda: ca.client().certificates.sign_many([GOOD] * count))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "items")


@pytest.mark.parametrize("bad", [{0}, {99}, {1, 50, 98}, set(range(0, 100, 2)), set(range(99))])
def test_forbidden_names_in_a_batch_fail_their_items_alone(ca: RunningCa, bad: set[int]):
    outcomes = ca.client().certificates.sign_many([BAD if i in bad else GOOD for i in range(100)])
    assert {i for i, o in enumerate(outcomes) if isinstance(o, errors.NameRefused)} == bad
    assert len(signed(outcomes)) == 100 - len(bad)
    failure = next(o for o in outcomes if isinstance(o, errors.KeyreeveError))
    assert "csr.subject_alternative_name[0]" in failure.metadata


def test_every_item_fails_for_a_reason_of_its_own(ca: RunningCa):
    items = [
        GOOD,
        BAD,
        SignItem("server", b"no request"),
        SignItem("operator", server_csr("web.example.test")),
        SignItem("nothing-like-it", server_csr("web.example.test")),
        SignItem("server", server_csr("web.example.test"), lifetime=timedelta(days=1000)),
        SignItem("server", server_csr("web.example.test"), authority="nothing-like-it"),
        GOOD,
    ]
    outcomes = ca.client(OPERATOR).certificates.sign_many(items)
    assert [o.reason if isinstance(o, errors.KeyreeveError) else "" for o in outcomes] == [
        "",
        "NAME_REFUSED",
        "CSR_MALFORMED",
        "PROFILE_NOT_ALLOWED",
        "PROFILE_NOT_FOUND",
        "LIFETIME_REFUSED",
        "AUTHORITY_NOT_FOUND",
        "",
    ]


def test_a_batch_of_which_nothing_is_good_answers_each_item(ca: RunningCa):
    outcomes = ca.client().certificates.sign_many([BAD, SignItem("server", b"")])
    assert [type(o) for o in outcomes] == [errors.NameRefused, errors.CsrMalformed]


def test_items_of_another_authority_than_the_firsts_are_refused(ca: RunningCa):
    control = SignItem("workload", make_csr(make_key(), [Name.uri(ca.identity(f"workloads/{unique('w')}"))]))
    for items, good in (([GOOD, control, GOOD], [0, 2]), ([control, GOOD, GOOD], [0])):
        outcomes = ca.client().certificates.sign_many(items)
        assert [i for i, o in enumerate(outcomes) if isinstance(o, SignedCertificate)] == good
        other = next(o for o in outcomes if isinstance(o, errors.KeyreeveError))
        assert other.reason == "FIELD_INVALID"
        assert "in different requests" in other.message


def test_a_key_of_two_identities_in_one_batch_is_given_to_the_first(ca: RunningCa):
    key, name = make_key(), unique("w")
    items = [SignItem("workload", make_csr(key, [Name.uri(ca.identity(f"workloads/{name}/{who}"))])) for who in "aba"]
    outcomes = ca.client().certificates.sign_many(items)
    assert [type(o) for o in outcomes] == [SignedCertificate, errors.KeyReused, SignedCertificate]


def test_a_malformed_item_is_named_by_its_place(ca: RunningCa):
    items = [
        pb.SignCertificateItem(profile="profiles/server", csr=b""),
        pb.SignCertificateItem(profile="server", csr=b""),
    ]
    told = raw_refusal(ca, "SignCertificates", pb.SignCertificatesRequest(items=items, request_id=new_request_id()))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "items[1].profile")
    unspecified = pb.SignCertificateItem(
        profile="profiles/server", names=[pb.SubjectAlternativeName(value="web.example.test")]
    )
    told = raw_refusal(ca, "SignCertificate", pb.SignCertificateRequest(item=unspecified, request_id=new_request_id()))
    assert (told.reason, told.violations[0].field) == ("FIELD_INVALID", "item.names[0].type")


# --- Repeats ------------------------------------------------------------------------------------------------------------


def raw_refusal(ca: RunningCa, method: str, request: object, path: str = ADMIN) -> errors.KeyreeveError:
    stub = stubs.CertificateServiceStub(ca.channel(path))
    with pytest.raises(grpc.RpcError) as caught:
        getattr(stub, method)(request, timeout=20)
    return error_from_rpc(caught.value, "ca")


@pytest.mark.parametrize(
    "request_id",
    [
        "",
        "x",
        "0190F0A0-0000-7000-8000-000000000000",
        "0190f0a000007000800000000000000a",
        " 0190f0a0-0000-7000-8000-000000000000",
        "0190f0a0-0000-7000-8000-000000000000\n",
        "{0190f0a0-0000-7000-8000-000000000000}",
        "0190f0a0-0000-7000-8000-00000000000g",
    ],
)
def test_an_id_that_is_no_lower_case_uuid_is_refused(ca: RunningCa, request_id: str):
    item = pb.SignCertificateItem(profile="profiles/server", csr=server_csr("web.example.test"))
    for method, request in (
        ("SignCertificate", pb.SignCertificateRequest(item=item, request_id=request_id)),
        ("SignCertificates", pb.SignCertificatesRequest(items=[item], request_id=request_id)),
        ("RenewCertificate", pb.RenewCertificateRequest(name=f"certificates/{'0' * 32}", request_id=request_id)),
    ):
        assert raw_refusal(ca, method, request).reason == "REQUEST_ID_INVALID"


def test_a_repeat_is_answered_with_the_same_bytes_by_any_worker(ca: RunningCa):
    request = pb.SignCertificateRequest(
        item=pb.SignCertificateItem(profile="profiles/server", csr=server_csr("web.example.test")),
        request_id=new_request_id(),
    )
    answers = {
        stubs.CertificateServiceStub(ca.channel(worker=worker)).SignCertificate(request, timeout=20).SerializeToString()
        for worker in (0, 1, 0)
    }
    assert len(answers) == 1


def test_a_repeated_batch_is_answered_with_the_same_bytes_failures_included(ca: RunningCa):
    items = [
        pb.SignCertificateItem(profile="profiles/server", csr=server_csr(name))
        for name in ("web.example.test", "ca.svc.example.test", "db.example.test")
    ]
    request = pb.SignCertificatesRequest(items=items, request_id=new_request_id())
    answers = {
        stubs.CertificateServiceStub(ca.channel(worker=worker))
        .SignCertificates(request, timeout=20)
        .SerializeToString(deterministic=True)
        for worker in (0, 1, 0)
    }
    assert len(answers) == 1


def test_an_id_belongs_to_its_caller_and_method(ca: RunningCa):
    request_id = new_request_id()
    first = ca.client().certificates.sign("server", GOOD.csr, request_id=request_id)
    other = ca.client(OPERATOR).certificates.sign("server", GOOD.csr, request_id=request_id)
    [batch] = signed(ca.client().certificates.sign_many([GOOD], request_id))
    assert len({first.serial, other.serial, batch.serial}) == 3


def test_another_payload_under_the_same_id_is_refused_even_when_it_is_bad_by_itself(ca: RunningCa):
    request_id = new_request_id()
    certificates = ca.client().certificates
    first = certificates.sign("server", GOOD.csr, request_id=request_id)
    for again in (
        lambda: certificates.sign("server", server_csr("other.example.test"), request_id=request_id),
        lambda: certificates.sign("server", BAD.csr, request_id=request_id),
        lambda: certificates.sign("server", GOOD.csr, lifetime=timedelta(days=1), request_id=request_id),
        lambda: ca.client(worker=1).certificates.sign("client", GOOD.csr, request_id=request_id),
    ):
        assert refused(again).reason == "REQUEST_ID_REUSED"
    assert certificates.sign("server", GOOD.csr, request_id=request_id).serial == first.serial


def test_an_id_whose_request_was_refused_is_free_again(ca: RunningCa):
    request_id = new_request_id()
    assert refused(lambda: ca.client().certificates.sign("server", BAD.csr, request_id=request_id))
    assert ca.client().certificates.sign("server", GOOD.csr, request_id=request_id)


def test_a_hundred_at_once_with_one_id_get_one_certificate(ca: RunningCa):
    request_id, name = new_request_id(), f"{unique('once')}.example.test"
    csr = server_csr(name)

    def sign(n: int) -> bytes:
        return ca.client(worker=n % 2).certificates.sign("server", csr, request_id=request_id).certificate_der

    ca.client(worker=0), ca.client(worker=1)
    with ThreadPoolExecutor(32) as threads:
        assert len(set(threads.map(sign, range(100)))) == 1
    assert len(list(ca.client().certificates.list(identity=name))) == 1


def test_two_payloads_at_once_with_one_id_have_one_winner(ca: RunningCa):
    request_id = new_request_id()
    csrs = [server_csr(f"{unique('race')}.example.test") for _ in range(8)]

    def sign(n: int) -> str:
        try:
            return ca.client(worker=n % 2).certificates.sign("server", csrs[n], request_id=request_id).serial
        except errors.RequestIdReused:
            return ""

    ca.client(worker=0), ca.client(worker=1)
    with ThreadPoolExecutor(8) as threads:
        serials = [s for s in threads.map(sign, range(8)) if s]
    assert len(serials) == 1


def test_a_repeat_is_answered_the_same_after_the_profile_would_refuse_it(ca: RunningCa):
    profile, request_id = ca.new_profile(), new_request_id()
    csr = server_csr("web.example.test")
    first = ca.client(WORKLOAD).certificates.sign(profile, csr, request_id=request_id)
    [batch] = signed(ca.client(WORKLOAD).certificates.sign_many([SignItem(profile, csr)], request_id))
    ca.client().profiles.update(
        profile, document(requesters=["operators/admin"], names={"dns": {"maximum": 1, "patterns": ["*.else.test"]}})
    )
    assert refused(lambda: ca.client(WORKLOAD).certificates.sign(profile, csr)).reason == "PROFILE_NOT_ALLOWED"
    for worker in (0, 1):
        certificates = ca.client(WORKLOAD, worker=worker).certificates
        assert certificates.sign(profile, csr, request_id=request_id).certificate_der == first.certificate_der
        [again] = signed(certificates.sign_many([SignItem(profile, csr)], request_id))
        assert again.certificate_der == batch.certificate_der


def test_a_mutation_that_is_repeated_happens_once(ca: RunningCa):
    authority_id, request_id = unique("once"), new_request_id()

    def create(worker: int) -> Authority:
        return ca.client(worker=worker).authorities.create(
            authority_id,
            hierarchy=Hierarchy.STANDALONE,
            kind=AuthorityKind.ROOT,
            owner="appliances/once",
            common_name=authority_id,
            request_id=request_id,
        )

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(create, (0, 1, 0, 1)))
    assert len({a.certificate_der for a in made}) == 1
    told = refused(
        lambda: ca.client().authorities.create(
            authority_id,
            hierarchy=Hierarchy.ESTATE,
            kind=AuthorityKind.ROOT,
            common_name="other",
            request_id=request_id,
        )
    )
    assert told.reason == "REQUEST_ID_REUSED"
    # The answer is the one of then, not what has become of it since.
    ca.client().authorities.activate(authority_id)
    assert create(1) == made[0]


def test_a_repeated_profile_change_makes_one_version(ca: RunningCa):
    profile, request_id = ca.new_profile(), new_request_id()
    changed = document(keys=["p256"])
    versions = {
        ca.client(worker=w).profiles.update(profile, changed, version=1, request_id=request_id).version for w in (0, 1)
    }
    assert versions == {2}
    told = refused(lambda: ca.client().profiles.update(profile, document(), request_id=request_id))
    assert told.reason == "REQUEST_ID_REUSED"


def test_any_version_of_uuid_will_do(ca: RunningCa):
    for request_id in (uuid.uuid4(), uuid.uuid5(uuid.NAMESPACE_DNS, unique("x"))):
        ca.client().certificates.sign("server", GOOD.csr, request_id=str(request_id))


def test_the_names_beside_a_request_are_part_of_its_payload(ca: RunningCa):
    request_id, csr = new_request_id(), make_csr(some_key())
    ca.client().certificates.sign("server", csr, names=[Name.dns("a.test")], request_id=request_id)
    told = refused(
        lambda: ca.client().certificates.sign("server", csr, names=[Name.dns("b.test")], request_id=request_id)
    )
    assert told.reason == "REQUEST_ID_REUSED"
