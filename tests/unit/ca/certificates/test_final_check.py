"""The final check refuses everything except the plan: mutations, swaps, and impossible plans."""

import random
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest

from keyreeve.errors import FinalCheckFailed
from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.certificates.final_check import FinalCheck, check_signed
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.template import Template
from keyreeve_ca.profiles.profile import CommonName, DnsRule, IpRule, UriRule
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import (
    IDENTITY,
    NOW,
    PERMISSIVE,
    SEED,
    TRUST_DOMAIN,
    authority,
    dns,
    plan_for,
    uri,
    version_of,
)

NUMBER = serial(9, SEED, 3)
SHARD = 4


def encode(plan, hierarchy=Hierarchy.ESTATE):
    return Template(plan.profile, authority(hierarchy).issuer).tbs(plan, NUMBER, SHARD)


def check(tbs, plan, hierarchy=Hierarchy.ESTATE, number=NUMBER, shard=SHARD):
    FinalCheck(plan.profile, authority(hierarchy).issuer, TRUST_DOMAIN).check_tbs(tbs, plan, number, shard)


def refused(plan, hierarchy=Hierarchy.ESTATE, match="planned"):
    """Encode a plan and see it refused."""
    with pytest.raises(FinalCheckFailed, match=match):
        check(encode(plan, hierarchy), plan, hierarchy)


@pytest.mark.parametrize("key_type", [KeyType.P256, KeyType.RSA2048, KeyType.ED25519])
def test_no_changed_octet_passes(key_type):
    plan = plan_for(key_type=key_type, names=(*dns("web.example.test"), Name(NameType.IP, "10.0.0.1")))
    tbs = encode(plan)
    final = FinalCheck(plan.profile, authority().issuer, TRUST_DOMAIN)
    final.check_tbs(tbs, plan, NUMBER, SHARD)
    for position in range(len(tbs)):
        for change in (0x01, 0x20, 0x80, 0xFF):
            changed = bytearray(tbs)
            changed[position] ^= change
            with pytest.raises(FinalCheckFailed):
                final.check_tbs(bytes(changed), plan, NUMBER, SHARD)


def test_no_removed_inserted_or_repeated_octet_passes():
    plan = plan_for(common_name="web.example.test")
    tbs = encode(plan)
    check(tbs, plan)
    for position in range(len(tbs)):
        for changed in (
            tbs[:position] + tbs[position + 1 :],
            tbs[:position] + b"\0" + tbs[position:],
            tbs[: position + 1] + tbs[position:],
            tbs[:position],
        ):
            with pytest.raises(FinalCheckFailed):
                check(changed, plan)


def test_no_splice_of_two_certificates_passes():
    """Whatever stretch of another certificate of the same profile lands in this one, it is not signed."""
    plan = plan_for(names=dns("web.example.test"))
    other_plan = replace(
        plan_for(names=dns("adm.example.test"), not_before=NOW - 299), spki=plan.spki[:-1] + bytes([plan.spki[-1] ^ 1])
    )
    tbs = encode(plan)
    other = Template(plan.profile, authority().issuer).tbs(other_plan, serial(8, SEED, 1), 5)
    assert len(tbs) == len(other)
    chance = random.Random(7)
    for _ in range(2000):
        start, end = sorted(chance.sample(range(len(tbs) + 1), 2))
        spliced = tbs[:start] + other[start:end] + tbs[end:]
        if spliced == tbs:
            continue
        with pytest.raises(FinalCheckFailed):
            check(spliced, plan)


def test_swapped_extensions_and_swapped_names_are_refused():
    plan = plan_for(names=dns("a.example.test", "b.example.test"))
    tbs = encode(plan)
    for one, two in (
        (b"\x82\x0ea.example.test", b"\x82\x0eb.example.test"),
        (
            b"\x30\x0c\x06\x03\x55\x1d\x13\x01\x01\xff\x04\x02\x30\x00",
            b"\x30\x0e\x06\x03\x55\x1d\x0f\x01\x01\xff\x04\x04\x03\x02\x07\x80",
        ),
    ):
        first, second = sorted((tbs.index(one), tbs.index(two)))
        a, b = (one, two) if first == tbs.index(one) else (two, one)
        middle = tbs[first + len(a) : second]
        swapped = tbs[:first] + b + middle + a + tbs[second + len(b) :]
        assert len(swapped) == len(tbs)
        with pytest.raises(FinalCheckFailed):
            check(swapped, plan)


def test_a_certificate_for_another_reservation_or_profile_is_refused():
    plan = plan_for()
    tbs = encode(plan)
    with pytest.raises(FinalCheckFailed, match="serial"):
        check(tbs, plan, number=serial(9, SEED, 4))
    with pytest.raises(FinalCheckFailed, match="extension"):
        check(tbs, plan, shard=SHARD + 1)
    other = version_of(replace(PERMISSIVE, description="x"))
    with pytest.raises(FinalCheckFailed, match="another version"):
        FinalCheck(other, authority().issuer, TRUST_DOMAIN).check_tbs(tbs, plan, NUMBER, SHARD)


@pytest.mark.parametrize("bad", [b"\0" * 16, b"\x80" * 16, b"\x41" * 15, b"\x41" * 17])
def test_a_serial_that_is_not_16_positive_octets_is_refused(bad):
    plan = plan_for()
    tbs = Template(plan.profile, authority().issuer).tbs(plan, bad, SHARD)
    with pytest.raises(FinalCheckFailed, match="serial"):
        check(tbs, plan, number=bad)


@pytest.mark.parametrize(("seconds", "good"), [(30 * 86400, True), (30 * 86400 + 1, False), (1, True), (0, False)])
def test_the_inclusive_lifetime_is_at_most_the_maximum(seconds, good):
    plan = plan_for(seconds=seconds)
    if good:
        check(encode(plan), plan)
    else:
        refused(plan, match="validity")


def test_nothing_is_valid_before_or_after_its_issuer():
    long = replace(PERMISSIVE, maximum_lifetime=timedelta(days=4000))
    issuer = authority().issuer
    exact = replace(plan_for(long), not_before=issuer.not_before, not_after=issuer.not_after)
    check(encode(exact), exact)
    refused(replace(exact, not_before=issuer.not_before - 1), match="issuer")
    refused(replace(exact, not_after=issuer.not_after + 1), match="issuer")


@pytest.mark.parametrize(
    "text",
    [
        "a\0.example.test", "a\n.example.test", "A.example.test", "a..example.test", ".example.test", "example.test.",
        "-a.example.test", "a-.example.test", "a b.example.test", "a_b.example.test", "192.0.2.1", "a.*.example.test",
        "*", "a" * 64 + ".example.test", ".".join(["abcdefg"] * 32), "%61.example.test", "",
        "spiffe://example.test/operators/admin/x",
    ],
)  # fmt: skip
def test_a_dns_name_outside_the_grammar_is_refused(text):
    refused(plan_for(names=dns("web.example.test", text)))


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://other.test/a\0", "https://h.test/a%61", "https://h.test/a/../b", "https://h.test//a", "https://h.test/",
        "https://h.test:8080/a", "https://u@h.test/a", "https://H.test/a", "urn:x:y", "https://h.test/a?b", "/a", "",
    ],
)  # fmt: skip
def test_a_uri_outside_the_grammar_is_refused(text):
    refused(plan_for(names=uri(text)))


@pytest.mark.parametrize("where", range(0, 100, 9))
def test_one_bad_name_among_a_hundred_is_found_wherever_it_stands(where):
    names = [f"w{i}.example.test" for i in range(100)]
    names[where] = "ca.svc.example.test"
    refused(plan_for(names=dns(*names)), match="reserved")


@pytest.mark.parametrize(
    "name",
    ["svc.example.test", "ca.svc.example.test", "a.b.probe.example.test", "*.svc.example.test", "*.example.test"],
)
@pytest.mark.parametrize("hierarchy", Hierarchy)
def test_reserved_names_are_refused_on_every_hierarchy(name, hierarchy):
    refused(plan_for(replace(PERMISSIVE, hierarchy=hierarchy), names=dns(name)), hierarchy, match="reserved")


def test_names_that_only_resemble_the_reserved_ones_pass():
    plan = plan_for(names=dns("xsvc.example.test", "svc.example.test.example.org", "*.web.example.test"))
    check(encode(plan), plan)


@pytest.mark.parametrize("hierarchy", [Hierarchy.ESTATE, Hierarchy.STANDALONE])
def test_an_identity_of_the_control_plane_is_refused_outside_the_control_hierarchy(hierarchy):
    profile = replace(PERMISSIVE, hierarchy=hierarchy, uri=UriRule(9, ("spiffe://{anything}/{path*}",)))
    refused(plan_for(profile, names=uri("spiffe://example.test/operators/admin/x")), hierarchy, match="control plane")
    plan = plan_for(profile, names=uri("spiffe://other.test/operators/admin/x"))
    check(encode(plan, hierarchy), plan, hierarchy)


@pytest.mark.parametrize("path", ["services/ca/1", "operators/admin/bea", "operators/x/bea", "operators", "others/a"])
def test_an_identity_of_a_service_or_a_person_is_for_the_built_in_profiles_alone(path):
    profile = replace(IDENTITY, uri=UriRule(1, ("spiffe://{trust_domain}/{path*}",)))
    refused(plan_for(profile, names=uri(f"spiffe://example.test/{path}")), Hierarchy.CONTROL, match="reserved")


@pytest.mark.parametrize(
    "text",
    ["spiffe://other.test/members/a", "https://example.test/members/a", "spiffe://example.test/operators/Admin/x"],
)
def test_the_control_hierarchy_certifies_identities_of_its_own_trust_domain_alone(text):
    profile = replace(IDENTITY, uri=UriRule(1, ("{anything}",)))
    refused(plan_for(profile, names=uri(text)), Hierarchy.CONTROL, match="no identity")


def test_an_authoritys_name_constraints_bind_even_a_profile_that_may_use_reserved_names():
    profile = replace(PERMISSIVE, may_use_reserved_names=True)
    refused(plan_for(profile, names=dns("ca.svc.example.test")), match="excluded")
    refused(plan_for(profile, names=dns("*.example.test")), match="excluded")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"dns": None}, dns("web.example.test")),
        ({"uri": None}, uri("https://h.test/a")),
        ({"ip": None}, (Name(NameType.IP, "10.0.0.1"),)),
        ({"email": None}, (Name(NameType.EMAIL, "a@example.test"),)),
        ({"dns": DnsRule(1, ("**",))}, dns("a.example.test", "b.example.test")),
        ({"dns": DnsRule(9, ("**",))}, dns("*.a.example.test")),
        ({"dns": DnsRule(9, ("*.example.test",))}, dns("a.b.example.test")),
        ({"uri": UriRule(9, ("https://h.test/{x}",))}, uri("https://i.test/a")),
        ({"ip": IpRule(9, (ip_network("10.0.0.0/8"),))}, (Name(NameType.IP, "11.0.0.1"),)),
        ({"minimum_names": 2}, dns("a.example.test")),
        ({}, dns("a.example.test", "a.example.test")),
        ({}, ()),
        ({"keys": frozenset({KeyType.P384})}, dns("a.example.test")),
    ],
)
def test_what_the_profile_does_not_allow_is_refused(change, names):
    refused(plan_for(replace(PERMISSIVE, **change), names=names))


@pytest.mark.parametrize(
    ("rule", "common_name"),
    [
        (CommonName.FORBIDDEN, "web.example.test"),
        (CommonName.REQUIRED, None),
        (CommonName.OPTIONAL, "other.example.test"),
    ],
)
def test_a_common_name_that_the_profile_or_the_names_do_not_bear_out_is_refused(rule, common_name):
    refused(plan_for(replace(PERMISSIVE, common_name=rule), common_name=common_name), match="common name")


def test_a_plan_whose_key_type_is_not_its_keys_is_refused():
    refused(replace(plan_for(), key_type=KeyType.P384), match="key of type p256")


def test_an_authority_that_may_not_issue_is_refused():
    issuing = authority()
    plan = plan_for(common_name="web.example.test")
    template = Template(plan.profile, issuing.issuer)
    tbs = encode(plan)
    leaf = template.certificate(tbs, issuing.signer.sign(tbs))
    as_issuer = replace(issuing.issuer, certificate_der=leaf)
    with pytest.raises(FinalCheckFailed, match="not a CA"):
        FinalCheck(plan.profile, as_issuer, TRUST_DOMAIN)
    for change in (
        {"not_after": NOW},
        {"key_type": KeyType.P384},
        {"hierarchy": Hierarchy.CONTROL},
        {"certificate_der": b"\x30\x00"},
    ):
        with pytest.raises(FinalCheckFailed):
            FinalCheck(plan.profile, replace(issuing.issuer, **change), TRUST_DOMAIN)


def test_a_signed_certificate_that_is_not_what_was_checked_is_refused():
    issuing = authority()
    plan = plan_for()
    tbs = encode(plan)
    other = encode(plan_for(names=dns("adm.example.test")))
    signature = issuing.signer.sign(tbs)
    template = Template(plan.profile, issuing.issuer)
    good = template.certificate(tbs, signature)
    check_signed(good, tbs)
    rsa = Template(plan.profile, authority(Hierarchy.ESTATE, KeyType.P384).issuer)
    for bad in (
        template.certificate(other, signature),
        rsa.certificate(tbs, signature),
        template.certificate(tbs, b""),
        good + b"\0",
        good[:-1],
        b"",
        tbs,
    ):
        with pytest.raises(FinalCheckFailed):
            check_signed(bad, tbs)
