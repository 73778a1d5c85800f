"""Enrollment end to end: real listeners on both databases, the enrollee of the SDK, and every failure."""

import asyncio
from pathlib import Path

import pytest
from cryptography import x509

import keyreeve
from keyreeve import aio, errors
from keyreeve.enrollment import enroll
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.keys import load_key
from keyreeve.token_values import TokenState
from support.enrolling import enrolling_ca, new_token
from support.gateway_sessions import open_session
from support.running_ca import ADMIN, RunningCa, unique
from support.waiting import wait_for

__all__ = ["enrolling_ca"]


def state_of(ca: RunningCa, token: EnrollmentToken) -> TokenState:
    return next(one.state for one in ca.client().tokens.list() if one.name.endswith(token.token_id.hex()))


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("members/{}.example.test", "members"),
        ("workloads/billing/{}", "workloads"),
        ("operators/auditor/{}", "operators/auditor"),
        ("services/membership/{}", "services/membership"),
    ],
)
def test_an_enrollee_gets_the_identity_of_its_token(
    enrolling_ca: RunningCa, tmp_path: Path, path: str, role: str
) -> None:
    token = new_token(enrolling_ca, path.format(unique("one")))
    context = enroll(token.text(), tmp_path / "me")
    leaf, issuing = x509.load_pem_x509_certificates(context.certificate.read_bytes())
    leaf.verify_directly_issued_by(issuing)
    assert leaf.public_key() == load_key(context.key).public_key()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(token.identity)]
    service = role.partition("/")[2] if role.startswith("services/") else ""
    assert names.get_values_for_type(x509.DNSName) == ([f"{service}.svc.example.test"] if service else [])
    assert oct(context.key.stat().st_mode & 0o777) == "0o600"
    with keyreeve.Client(context) as client:
        mine = client.certificates.get(f"{leaf.serial_number:032x}")
        assert mine.identity == str(token.identity)
        assert mine.requester == enrolling_ca.identity(ADMIN)
        roots = client.authorities.bundle("estate").pem()
    assert context.estate_bundle.read_text() == roots
    wait_for("the token is closed", lambda: state_of(enrolling_ca, token) is TokenState.CLOSED)
    row = enrolling_ca.read(lambda tx: tx.tokens.get(token.token_id))
    assert row.sealed_keys is None
    assert row.serial == leaf.serial_number.to_bytes(16)


def test_a_gateway_enrolls_with_a_token_and_opens_sessions(enrolling_ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(enrolling_ca, f"services/gateway/{unique('one')}")
    open_session(enrolling_ca, enroll(token.text(), tmp_path / "me"))


async def test_an_enrollee_enrolls_in_asyncio_too(enrolling_ca: RunningCa, tmp_path: Path) -> None:
    token = await asyncio.to_thread(new_token, enrolling_ca)
    context = await aio.enroll(token, tmp_path)
    async with aio.Client(context) as client:
        assert (await client.authorities.bundle("control")).trust_domain == "example.test"
    with pytest.raises(errors.FileUnusable):
        await aio.enroll(token, tmp_path)
