"""What an authority's key signs: a certificate once, after its final check, and CRLs."""

import ast
import copy
import pickle
from pathlib import Path

import pytest
from cryptography import x509

import keyreeve_ca
from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.authorities.ca_certificate_check import check_responder
from keyreeve_ca.certificates.final_check import FinalCheck, check_signed
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.signers import CheckedTbs, CrlSigner, IssuingSigner
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.ocsp.messages import build_responder
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import NOW, SEED, STORE, TRUST_DOMAIN, authority, plan_for

PACKAGE = Path(keyreeve_ca.__file__).parent
NUMBER = serial(5, SEED, 0)
ISSUING = authority()
PLAN = plan_for()
TEMPLATE = Template(PLAN.profile, ISSUING.issuer)
TBS = TEMPLATE.tbs(PLAN, NUMBER, 1)
RAW_KEYS = {
    "ocsp/responder.py": "self.keystore.open(self.keystore.generate(KeyType.P256))",
    "certificates/linter.py": "store.open(store.generate(key_type))",
}
"""Keys that are not an authority's: an OCSP responder's own, and one under which nothing leaves the linter."""


def checked() -> CheckedTbs:
    return FinalCheck(PLAN.profile, ISSUING.issuer, TRUST_DOMAIN).check_tbs(TBS, PLAN, NUMBER, 1)


def calls(name: str) -> dict[str, list[ast.Call]]:
    """Calls of a function or method of this name, by module."""
    found: dict[str, list[ast.Call]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == name:
                found.setdefault(str(path.relative_to(PACKAGE)), []).append(node)
    return found


def test_what_the_final_check_has_passed_is_signed() -> None:
    der = TEMPLATE.certificate(TBS, IssuingSigner(ISSUING.signer).sign(checked()))
    check_signed(der, TBS)


def test_what_was_checked_once_is_signed_once() -> None:
    signer, once = IssuingSigner(ISSUING.signer), checked()
    signer.sign(once)
    with pytest.raises(FinalCheckFailed, match="signed already"):
        signer.sign(once)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CheckedTbs(TBS),  # type: ignore[call-arg]
        CheckedTbs,
        lambda: copy.copy(checked()),
        lambda: copy.deepcopy(checked()),
        lambda: pickle.loads(pickle.dumps(checked())),
        lambda: type("Forged", (CheckedTbs,), {}),
    ],
)
def test_nothing_but_a_final_check_makes_one(make) -> None:
    with pytest.raises(TypeError):
        make()


def test_only_the_final_checks_mark_what_they_have_checked() -> None:
    assert calls("mark_checked").keys() == {"certificates/final_check.py", "authorities/ca_certificate_check.py"}


@pytest.mark.parametrize("other", [TBS, ISSUING.issuer, None])
def test_an_issuing_signer_takes_nothing_else(other) -> None:
    with pytest.raises(TypeError, match="CheckedTbs"):
        IssuingSigner(ISSUING.signer).sign(other)


@pytest.mark.parametrize("other", [TBS, TBS[:-1], b"", b"\x30\x00"])
def test_a_crl_signer_signs_no_certificate(other) -> None:
    with pytest.raises(FinalCheckFailed, match="TBSCertList"):
        CrlSigner(ISSUING.signer).sign(other)


def test_every_key_of_an_authority_is_wrapped_where_it_is_opened() -> None:
    wrapped = {
        ast.unparse(call.args[0])
        for name in ("IssuingSigner", "CrlSigner")
        for each in calls(name).values()
        for call in each
    }
    raw = {
        module: text
        for module, each in calls("open").items()
        for call in each
        if "store.open(" in (text := ast.unparse(call)) and text not in wrapped
    }
    assert raw == RAW_KEYS


def test_an_ocsp_responders_certificate_is_checked_before_it_is_signed() -> None:
    issuer, spki = ISSUING.issuer, STORE.generate(KeyType.P256).spki
    der = build_responder(issuer, IssuingSigner(ISSUING.signer), spki, NUMBER, not_before=NOW, not_after=NOW + 60)
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    check_responder(tbs, issuer, spki, NUMBER, not_before=NOW, not_after=NOW + 60)
    for changed in (
        (spki, NUMBER, NOW, NOW + 61),
        (spki, NUMBER, NOW - 1, NOW + 60),
        (spki, serial(5, SEED, 1), NOW, NOW + 60),
        (ISSUING.signer.spki, NUMBER, NOW, NOW + 60),
    ):
        key, number, not_before, not_after = changed
        with pytest.raises(FinalCheckFailed, match="differs from its plan"):
            check_responder(tbs, issuer, key, number, not_before=not_before, not_after=not_after)
    for other in (TBS, tbs[:-1], b"", tbs + b"\0"):
        with pytest.raises(FinalCheckFailed):
            check_responder(other, issuer, spki, NUMBER, not_before=NOW, not_after=NOW + 60)
