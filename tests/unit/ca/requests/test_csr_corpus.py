"""Every invalid request of the corpus is refused with an accepted reason, quickly; the valid ones are not."""

import time

import pytest

from keyreeve.errors import FailedPrecondition, InvalidArgument, KeyreeveError
from keyreeve.values import Name, NameType
from keyreeve_ca.certificates.plan import CertificatePlan
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.requests.csr import check_possession, read_csr
from support.csr_corpus import bad_csrs
from support.csr_writer import good_csr, info, pem, rsa_key, signed, spki_of
from support.plans import TRUST_DOMAIN, plan, strict

CORPUS = bad_csrs(TRUST_DOMAIN)


def sign(data: bytes, profile: str | ProfileVersion = "server", *, named: bool = False) -> CertificatePlan:
    """What the service does with a request before it signs."""
    request = read_csr(data)
    without_names = not request.names and not request.unusable_names and not request.subject
    decided = plan(profile, request, [Name(NameType.DNS, "web.example.test")] if without_names and named else [])
    check_possession(request)
    return decided


def test_the_corpus_has_at_least_a_hundred_kinds_of_bad_requests():
    labels = {case.label for case in CORPUS}
    assert len(labels) == len(CORPUS)
    assert len([label for label in labels if "in position" not in label]) >= 100


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.label)
def test_a_bad_request_is_refused_with_a_right_reason_in_time(case):
    spent = []
    for _ in range(3):  # the best of three: a collection of the whole test run's garbage may fall into one
        before = time.process_time()
        with pytest.raises(KeyreeveError) as refusal:
            sign(case.data)
        spent.append(time.process_time() - before)
    assert isinstance(refusal.value, InvalidArgument | FailedPrecondition)
    assert refusal.value.reason in case.reasons, refusal.value.message
    assert refusal.value.message.isprintable()
    assert all(violation.description.isprintable() for violation in refusal.value.violations)
    assert min(spent) < 0.05


@pytest.mark.parametrize("case", bad_csrs(TRUST_DOMAIN, unneeded=True), ids=lambda case: case.label)
def test_what_a_lenient_profile_leaves_out_refuses_a_strict_one(case):
    decided = sign(case.data, named=True)
    assert [name.value for name in decided.names] == ["web.example.test"]
    assert decided.common_name in {None, "web.example.test"}
    assert all(what.isprintable() and len(what) < 300 for what in decided.ignored)
    with pytest.raises(KeyreeveError) as refusal:
        sign(case.data, strict("server"), named=True)
    assert refusal.value.reason in case.reasons, refusal.value.message
    assert refusal.value.message.isprintable()


@pytest.mark.parametrize("label", ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"])
def test_the_good_request_is_accepted_in_der_and_pem(label):
    assert sign(good_csr()) == sign(pem(good_csr(), label))
    assert sign(pem(good_csr(), label).replace(b"\n", b"\r\n") + b"\r\n\r\n") == sign(good_csr())


def test_a_good_request_with_an_rsa_key_is_accepted():
    sign(signed(info(spki=spki_of(rsa_key())), rsa_key()))
