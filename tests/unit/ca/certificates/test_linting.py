"""pkilint on everything the CA would sign: authorities, built-in profiles, and the allow-list."""

from dataclasses import replace

import pytest

from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.authorities.ca_certificate_plan import AUTHORITY_KEY_TYPES
from keyreeve_ca.certificates.final_check import FinalCheck
from keyreeve_ca.certificates.linter import PkilintLinter, allow_list, lint_certificate, sample_certificates
from keyreeve_ca.certificates.sample_names import sample_names
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.profiles.builtin import BUILTIN_NAMES, builtin_profiles
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_ca.requests.name_grammar import problem_with
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import (
    PERMISSIVE,
    SEED,
    TRUST_DOMAIN,
    authority,
    dns,
    plan_for,
    uri,
    version_of,
)


def signed(plan, issuing):
    template = Template(plan.profile, issuing.issuer)
    tbs = template.tbs(plan, serial(1, SEED, 1), 1)
    return template.certificate(tbs, issuing.signer.sign(tbs))


@pytest.mark.parametrize("key_type", sorted(AUTHORITY_KEY_TYPES))
@pytest.mark.parametrize("hierarchy", Hierarchy)
def test_authorities_lint_clean(hierarchy, key_type):
    assert lint_certificate(authority(hierarchy, key_type).root_der) == []
    assert lint_certificate(authority(hierarchy, key_type).issuer.certificate_der) == []


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_built_in_profiles_lint_clean(name):
    document, sha256, profile = builtin_profiles(TRUST_DOMAIN)[name]
    version = ProfileVersion(name, 1, sha256, document, profile)
    assert PkilintLinter(TRUST_DOMAIN).profile(version, authority(profile.hierarchy).issuer) == []


@pytest.mark.parametrize("name", BUILTIN_NAMES)
def test_the_names_that_stand_for_a_profile_are_names_that_it_allows(name):
    document, sha256, profile = builtin_profiles(TRUST_DOMAIN)[name]
    version = ProfileVersion(name, 1, sha256, document, profile)
    issuer = authority(profile.hierarchy).issuer
    final = FinalCheck(version, issuer, TRUST_DOMAIN)
    for names in sample_names(profile, TRUST_DOMAIN):
        assert [problem_with(each) for each in names] == [None] * len(names)
        common_name = next((n.value for n in names if n.type == "dns" and len(n.value) <= 64), None)
        plan = replace(
            plan_for(profile, names=names, seconds=60),
            profile=version,
            common_name=common_name if profile.common_name != "forbidden" else None,
        )
        if len(names) >= profile.minimum_names and (common_name or profile.common_name != "required"):
            final.check_tbs(Template(version, issuer).tbs(plan, serial(1, SEED, 1), 1), plan, serial(1, SEED, 1), 1)


def test_the_samples_hold_every_key_type_and_every_type_of_name_at_its_maximum():
    certificates = sample_certificates(version_of(PERMISSIVE), authority().issuer, TRUST_DOMAIN)
    assert len(certificates) >= len(KeyType) + 4
    names = sample_names(PERMISSIVE, TRUST_DOMAIN)
    counts = {kind: max(sum(n.type == kind for n in each) for each in names) for kind in NameType}
    assert counts == dict.fromkeys(NameType, 100)
    assert max(len(n.value) for n in names[-1] if n.type == "dns") > 240


def test_a_certificate_with_a_flaw_has_findings():
    plan = plan_for(names=(*dns("web.example.test"), Name(NameType.EMAIL, "not an address")))
    findings = lint_certificate(signed(plan, authority()))
    assert [(finding.severity, finding.code) for finding in findings] == [
        ("ERROR", "pkix.invalid_email_address_syntax")
    ]
    assert "not an address" in str(findings[0])


def test_bytes_that_are_no_certificate_are_a_finding():
    assert [finding.code for finding in lint_certificate(b"\x30\x03\x02\x01")] == ["unreadable"]


def test_a_profile_whose_certificates_would_be_flawed_has_findings():
    profile = replace(PERMISSIVE, uri=replace(PERMISSIVE.uri, templates=("gopher://{host}/{path*}",)))
    findings = PkilintLinter(TRUST_DOMAIN).profile(version_of(profile), authority().issuer)
    assert findings
    assert all("pkix.invalid_uri_syntax" in finding for finding in findings)


@pytest.mark.parametrize(
    ("names", "excused"),
    [
        (uri("spiffe://example.test/members/a"), True),
        (uri("spiffe://example.test/members/%61"), False),
        (uri("spiffe://example.test:8443/a"), False),
        (uri("gopher://example.test/a"), False),
        (dns("*.example.test"), True),
        (dns("localhost"), True),
        (dns("a.*.example.test"), False),
        (dns("-a.example.test"), False),
        (dns("a..example.test"), False),
        ((Name(NameType.EMAIL, "root@localhost"),), True),
        ((Name(NameType.EMAIL, "root@@localhost"),), False),
    ],
)
def test_the_allow_list_excuses_what_it_names_and_no_more(names, excused):
    findings = lint_certificate(signed(plan_for(names=names), authority()))
    assert (findings == []) is excused


def test_every_excuse_says_why():
    assert all(len(excuse.reason) > 80 for excuse in allow_list())
