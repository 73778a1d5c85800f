"""What an operator enrolled before they were removed, and a second holder of another party's workload."""

import pytest

from keyreeve import errors
from keyreeve.keys import make_key
from keyreeve.values import CertificateState
from support.enrolling import conversation, enrolling_ca, new_token
from support.running_ca import ADMIN, RunningCa, refused, server_csr, unique

__all__ = ["enrolling_ca"]


@pytest.fixture
def mallory(enrolling_ca: RunningCa) -> str:
    return f"operators/operator/{unique('mallory')}"


def enroll_workload(ca: RunningCa, path: str, by: str) -> None:
    with conversation(new_token(ca, path, by=by), key=make_key()) as talk:
        talk.whole()


def test_what_an_operator_requested_or_enrolled_is_listed_by_its_requester(
    enrolling_ca: RunningCa, mallory: str
) -> None:
    ca, workload = enrolling_ca, f"workloads/{unique('billing')}/api"
    signed = ca.client(mallory).certificates.sign("server", server_csr(f"{unique('web')}.example.test"))
    enroll_workload(ca, workload, mallory)
    ca.client().operators.remove(mallory.rpartition("/")[2])
    found = list(ca.client().certificates.list(requester=ca.identity(mallory), state=CertificateState.VALID))
    assert {one.identity for one in found} >= {ca.identity(workload)}
    assert signed.serial in {one.serial for one in found}
    assert all(one.requester == ca.identity(mallory) for one in found)


@pytest.mark.parametrize("path", ["workloads/{}/api", "members/{}.example.test"])
def test_an_operator_enrolls_no_second_holder_of_an_identity(enrolling_ca: RunningCa, mallory: str, path: str) -> None:
    ca, workload = enrolling_ca, path.format(unique("billing"))
    token = new_token(ca, workload, by=ADMIN)
    assert isinstance(refused(lambda: new_token(ca, workload, by=mallory)), errors.TokenNotAllowed)
    with conversation(token, key=make_key()) as talk:
        talk.whole()
    assert isinstance(refused(lambda: new_token(ca, workload, by=mallory)), errors.TokenNotAllowed)
    assert new_token(ca, workload, by=ADMIN)
    assert new_token(ca, path.format(unique("other")), by=mallory)
