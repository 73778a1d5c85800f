"""Subjects with attributes and free common names: encoded as the library does, checked, and linted."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.certificates import der_writer as der
from keyreeve_ca.certificates.final_check import FinalCheck
from keyreeve_ca.certificates.linter import lint_certificate, sample_certificates
from keyreeve_ca.certificates.plan import CertificatePlan
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.profiles.profile import ExtendedKeyUsage, Profile, SubjectAttribute
from support.certificate_oracle import build_tbs
from support.certificate_plans import PERMISSIVE, SEED, TRUST_DOMAIN, authority, plan_for, version_of

NUMBER = serial(9, SEED, 3)
CLIENT = replace(
    PERMISSIVE,
    extended_key_usage=frozenset({ExtendedKeyUsage.CLIENT_AUTH}),
    common_names=("app-*", "*.user"),
    kept_attributes=frozenset(SubjectAttribute) - {SubjectAttribute.O},
    fixed_attributes=((SubjectAttribute.O, "Example AS"),),
)
FIXED = (SubjectAttribute.O, "Example AS")
ISSUER = authority().issuer


def encode(plan: CertificatePlan) -> bytes:
    return Template(plan.profile, ISSUER).tbs(plan, NUMBER, 4)


def check(tbs: bytes, plan: CertificatePlan) -> None:
    FinalCheck(plan.profile, ISSUER, TRUST_DOMAIN).check_tbs(tbs, plan, NUMBER, 4)


def plan_with(*attributes: tuple[SubjectAttribute, str], cn: str | None = None, profile: Profile = CLIENT):
    return replace(plan_for(profile, common_name=cn), attributes=attributes)


ascii_text = st.text("abcdefghijklmnop qrst-.", min_size=1, max_size=40)
values = {
    SubjectAttribute.C: st.sampled_from(("NO", "DE")),
    SubjectAttribute.ST: st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=60),
    SubjectAttribute.L: ascii_text,
    SubjectAttribute.OU: st.text(st.characters(codec="utf-8", categories=["L", "N"]), min_size=1, max_size=60),
    SubjectAttribute.SERIAL_NUMBER: ascii_text,
    SubjectAttribute.EMAIL_ADDRESS: st.just("ann@example.test"),
}


@given(
    texts=st.fixed_dictionaries({}, optional=values),
    cn=st.one_of(st.none(), st.just("web.example.test"), st.just("app-Zoë")),
)
@settings(max_examples=100, deadline=None)
def test_subjects_are_encoded_as_the_library_does_and_pass_the_final_check(texts, cn):
    attributes = [(each, texts[each]) for each in SubjectAttribute if each in texts]
    plan = plan_with(*sorted([*attributes, FIXED], key=lambda pair: list(SubjectAttribute).index(pair[0])), cn=cn)
    tbs = encode(plan)
    assert tbs == build_tbs(plan, NUMBER, 4, ISSUER)
    check(tbs, plan)


def test_no_changed_octet_of_a_subject_passes():
    plan = plan_with((SubjectAttribute.C, "NO"), FIXED, (SubjectAttribute.EMAIL_ADDRESS, "a@b.test"), cn="app-1")
    tbs = encode(plan)
    start = tbs.index(b"Example AS") - 40
    for position in range(start, tbs.index(b"app-1") + 5):
        changed = bytearray(tbs)
        changed[position] ^= 1
        with pytest.raises(FinalCheckFailed):
            check(bytes(changed), plan)


@pytest.mark.parametrize(
    "plan",
    [
        plan_with(),
        plan_with(cn="app-1"),
        plan_with((SubjectAttribute.O, "Other AS")),
        plan_with(FIXED, (SubjectAttribute.O, "Other AS")),
        plan_with(FIXED, (SubjectAttribute.C, "NOR")),
        plan_with(FIXED, (SubjectAttribute.OU, "u" * 65)),
        plan_with(FIXED, cn="postgres"),
        plan_with(FIXED, cn="app-"),
        plan_with(FIXED, cn="app-\u202ex"),
        plan_with((SubjectAttribute.OU, "Dev"), profile=PERMISSIVE),
        plan_with(FIXED, cn="app-1", profile=replace(CLIENT, extended_key_usage=frozenset(ExtendedKeyUsage))),
    ],
)
def test_a_subject_that_the_profile_does_not_have_is_refused(plan: CertificatePlan):
    with pytest.raises(FinalCheckFailed):
        check(encode(plan), plan)


def test_an_attribute_in_another_string_type_is_refused():
    plan = plan_with(FIXED)
    good = der.attribute(der.oid("2.5.4.10"), der.UTF8_STRING, "Example AS")
    other = der.attribute(der.oid("2.5.4.10"), der.PRINTABLE_STRING, "Example AS")
    check(encode(plan), plan)
    with pytest.raises(FinalCheckFailed):
        check(encode(plan).replace(good, other), plan)


def test_certificates_with_every_attribute_lint_clean():
    profile = replace(CLIENT, maximum_lifetime=PERMISSIVE.maximum_lifetime)
    found = [
        each
        for made in sample_certificates(version_of(profile), ISSUER, TRUST_DOMAIN)
        for each in lint_certificate(made)
    ]
    assert found == []
