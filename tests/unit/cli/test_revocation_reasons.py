"""Revocation reasons on the command line: every spelling of every reason (RFC 5280, section 5.3.1)."""

import pytest
import typer

from keyreeve.ca.v1 import authority_service_pb2, certificate_service_pb2, crl_reason_pb2
from keyreeve.cli.certificates.crl_reasons import read_authority_reason, read_leaf_reason
from keyreeve.values import CrlReason
from support.command_line import Run
from support.fake_ca_server import FakeCa
from support.sdk_calls import AUTHORITY as AN_AUTHORITY

LEAF = {
    "unspecified": "unspecified",
    "keyCompromise": "key_compromise",
    "affiliationChanged": "affiliation_changed",
    "superseded": "superseded",
    "cessationOfOperation": "cessation_of_operation",
    "privilegeWithdrawn": "privilege_withdrawn",
}
AUTHORITY = {
    "cACompromise": "ca_compromise",
    "superseded": "superseded",
    "cessationOfOperation": "cessation_of_operation",
}

SERIAL = "ab" * 16


def spellings(rfc: str, snake: str) -> set[str]:
    """As RFC 5280 and OpenSSL, as the contract, and as options of command lines spell a reason."""
    return {rfc, rfc.lower(), snake, snake.upper(), snake.replace("_", "-")}


@pytest.mark.parametrize(("rfc", "snake"), LEAF.items())
def test_every_spelling_of_a_leaf_reason_is_read(rfc: str, snake: str) -> None:
    assert {read_leaf_reason(text) for text in spellings(rfc, snake)} == {snake}
    assert CrlReason(snake)


@pytest.mark.parametrize(("rfc", "snake"), AUTHORITY.items())
def test_every_spelling_of_an_authority_reason_is_read(rfc: str, snake: str) -> None:
    assert {read_authority_reason(text) for text in spellings(rfc, snake)} == {snake}
    assert CrlReason(snake)


@pytest.mark.parametrize(
    "text", ["", "-", "key", "key compromise", "keycompromised", "cACompromise", "certificateHold"]
)
def test_anything_else_is_refused_with_the_reasons_of_a_leaf(text: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        read_leaf_reason(text)
    assert str(refused.value) == f"{text!r} is not one of {', '.join(LEAF)}"


@pytest.mark.parametrize("text", ["", "keyCompromise", "unspecified", "removeFromCRL"])
def test_anything_else_is_refused_with_the_reasons_of_an_authority(text: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        read_authority_reason(text)
    assert str(refused.value) == f"{text!r} is not one of {', '.join(AUTHORITY)}"


@pytest.mark.parametrize("spelling", ["keyCompromise", "key-compromise", "key_compromise"])
def test_revoke_sends_the_number_of_rfc_5280_for_each_spelling(run: Run, fake: FakeCa, spelling: str) -> None:
    revoked = certificate_service_pb2.Certificate(name=f"certificates/{SERIAL}")
    revoked.state = certificate_service_pb2.CERTIFICATE_STATE_REVOKED
    revoked.revoke_time.GetCurrentTime()
    fake.answer("RevokeCertificate", revoked)
    done = run("cert", "revoke", SERIAL, "--reason", spelling)
    assert done.code == 0, done.err
    assert fake.received[-1].request.reason == crl_reason_pb2.CRL_REASON_KEY_COMPROMISE == 1


@pytest.mark.parametrize("spelling", ["cACompromise", "ca-compromise", "ca_compromise"])
def test_revoking_an_authority_takes_each_spelling(run: Run, fake: FakeCa, spelling: str) -> None:
    revoked = authority_service_pb2.Authority()
    revoked.CopyFrom(AN_AUTHORITY)
    fake.answer("RevokeAuthority", revoked)
    done = run("authority", "revoke", "estate-2", "--reason", spelling)
    assert done.code == 0, done.err
    assert fake.received[-1].request.reason == crl_reason_pb2.CRL_REASON_CA_COMPROMISE == 2


def test_a_misspelled_reason_is_wrong_usage_and_lists_the_reasons(run: Run, fake: FakeCa) -> None:
    done = run("cert", "revoke", SERIAL, "--reason", "keyCompromized")
    assert done.code == 2
    assert "affiliationChanged" in done.err
    assert fake.received == []
