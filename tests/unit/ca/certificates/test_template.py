"""The encoder of leaf certificates against an oracle, and details beyond the oracle."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.certificates.final_check import FinalCheck, check_signed
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.profiles.profile import CommonName, ExtendedKeyUsage, KeyUsage
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_oracle import build_tbs
from support.certificate_plans import (
    IDENTITY,
    NOW,
    PERMISSIVE,
    SEED,
    SERVICE,
    TRUST_DOMAIN,
    authority,
    dns,
    plan_for,
    uri,
    version_of,
)

SIGNER_TYPES = (KeyType.P256, KeyType.P384, KeyType.RSA3072, KeyType.RSA4096, KeyType.ED25519)
YEAR_2050 = 2524608000

label = st.from_regex(r"[a-z]([a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
host = st.builds(".".join, st.lists(label, min_size=1, max_size=9))
names = st.one_of(
    st.builds(lambda text: Name(NameType.DNS, text), host),
    st.builds(lambda text: Name(NameType.DNS, f"*.{text}"), host),
    st.builds(lambda text: Name(NameType.URI, f"https://{text}/a/{text}"), host),
    st.builds(lambda text: Name(NameType.EMAIL, f"a.b+c@{text}"), host),
    st.builds(lambda number: Name(NameType.IP, str(IPv4Address(number))), st.integers(0, 2**32 - 1)),
    st.builds(lambda number: Name(NameType.IP, str(IPv6Address(number))), st.integers(0, 2**128 - 1)),
)
moments = st.one_of(
    st.integers(0, 4_000_000_000),
    st.integers(YEAR_2050 - 3, YEAR_2050 + 3),
    st.sampled_from((951782400, 951868799, 4107542400)),  # a leap day's first and last second, 2100-03-01
)


@given(
    key_type=st.sampled_from(KeyType),
    signer=st.sampled_from(SIGNER_TYPES),
    hierarchy=st.sampled_from(Hierarchy),
    several=st.lists(names, min_size=1, max_size=40, unique=True),
    with_common_name=st.booleans(),
    ends=st.lists(moments, min_size=2, max_size=2).map(sorted),
    usages=st.frozensets(st.sampled_from(KeyUsage)),
    purposes=st.frozensets(st.sampled_from(ExtendedKeyUsage)),
    block=st.integers(0, 2**46 - 1),
    shard=st.integers(0, 2**31),
)
@settings(max_examples=150, deadline=None)
def test_the_template_makes_the_bytes_that_the_builder_makes(  # noqa: PLR0917 - as many as the strategies above
    key_type, signer, hierarchy, several, with_common_name, ends, usages, purposes, block, shard
):
    profile = replace(PERMISSIVE, key_usage=usages, extended_key_usage=purposes)
    first_dns = next((n.value for n in several if n.type == "dns" and len(n.value) <= 64), None)
    plan = replace(
        plan_for(profile, key_type=key_type, names=tuple(several)),
        common_name=first_dns if with_common_name else None,
        not_before=ends[0],
        not_after=ends[1],
    )
    issuer = authority(hierarchy, signer).issuer
    number = serial(block, SEED, 0)
    assert Template(plan.profile, issuer).tbs(plan, number, shard) == build_tbs(plan, number, shard, issuer)


@pytest.mark.parametrize("signer", SIGNER_TYPES)
@pytest.mark.parametrize("key_type", KeyType)
def test_what_the_template_makes_passes_the_final_check_and_verifies(signer, key_type):
    issuing = authority(Hierarchy.ESTATE, signer)
    plan = plan_for(key_type=key_type, names=dns("web.example.test", "*.web.example.test"))
    template = Template(plan.profile, issuing.issuer)
    number = serial(5, SEED, 1)
    tbs = template.tbs(plan, number, 7)
    FinalCheck(plan.profile, issuing.issuer, TRUST_DOMAIN).check_tbs(tbs, plan, number, 7)
    signed = template.certificate(tbs, issuing.signer.sign(tbs))
    check_signed(signed, tbs)
    parent = x509.load_der_x509_certificate(issuing.issuer.certificate_der)
    x509.load_der_x509_certificate(signed).verify_directly_issued_by(parent)


@pytest.mark.parametrize(
    ("profile", "names"),
    [
        (IDENTITY, uri("spiffe://example.test/members/a.example.test")),
        (SERVICE, (*dns("ca.svc.example.test"), *uri("spiffe://example.test/services/ca/1"))),
    ],
)
def test_identities_of_the_control_hierarchy_pass_the_final_check(profile, names):
    plan = plan_for(profile, names=names)
    issuer = authority(Hierarchy.CONTROL).issuer
    number = serial(5, SEED, 1)
    tbs = Template(plan.profile, issuer).tbs(plan, number, 7)
    FinalCheck(plan.profile, issuer, TRUST_DOMAIN).check_tbs(tbs, plan, number, 7)


@pytest.mark.parametrize("key_type", KeyType)
def test_key_encipherment_is_for_rsa_keys_only(key_type):
    plan = plan_for(key_type=key_type)
    tbs = Template(plan.profile, authority().issuer).tbs(plan, serial(1, SEED, 0), 0)
    signed = Template(plan.profile, authority().issuer).certificate(tbs, authority().signer.sign(tbs))
    usage = x509.load_der_x509_certificate(signed).extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_encipherment == key_type.is_rsa
    assert usage.digital_signature


def test_the_names_are_critical_only_when_the_subject_is_empty():
    profile = replace(PERMISSIVE, common_name=CommonName.OPTIONAL)
    for common_name in (None, "web.example.test"):
        plan = plan_for(profile, common_name=common_name)
        template = Template(plan.profile, authority().issuer)
        tbs = template.tbs(plan, serial(1, SEED, 0), 0)
        parsed = x509.load_der_x509_certificate(template.certificate(tbs, authority().signer.sign(tbs)))
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names.critical is (common_name is None)


def test_the_lifetime_counts_both_ends():
    plan = plan_for(seconds=int(timedelta(days=30).total_seconds()))
    template = Template(plan.profile, authority().issuer)
    tbs = template.tbs(plan, serial(1, SEED, 0), 0)
    parsed = x509.load_der_x509_certificate(template.certificate(tbs, authority().signer.sign(tbs)))
    life = parsed.not_valid_after_utc - parsed.not_valid_before_utc + timedelta(seconds=1)
    assert life == timedelta(days=30)
    assert parsed.not_valid_before_utc.timestamp() == NOW - 300


def test_a_name_that_is_not_ascii_cannot_be_encoded():
    plan = plan_for(names=dns("wéb.example.test"))
    with pytest.raises(UnicodeEncodeError):
        Template(version_of(PERMISSIVE), authority().issuer).tbs(plan, serial(1, SEED, 0), 0)
