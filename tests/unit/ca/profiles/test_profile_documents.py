"""Profile documents: parsing, refusals with their positions, and the canonical form."""

import hashlib
import json
from datetime import timedelta

import pytest
import yaml
from hypothesis import strategies as st

from keyreeve.errors import ProfileInvalid
from keyreeve.identity import Role
from keyreeve.values import Hierarchy
from keyreeve_ca.profiles.builtin import BUILTIN_NAMES, builtin_profiles
from keyreeve_ca.profiles.document import MAX_DOCUMENT_BYTES, profile_from_canonical, read_profile
from keyreeve_ca.profiles.profile import CommonName, ExtendedKeyUsage, KeyUsage
from keyreeve_chassis.keys.key_types import KeyType
from support.both_seeds import for_all
from support.plans import TRUST_DOMAIN

SMALLEST = """\
description: Databases
hierarchy: estate
requesters: [operators/admin]
keys: [p256]
lifetime: {default: 30d, maximum: 90d}
names: {dns: {maximum: 1, patterns: ["*.db.example.test"]}}
usage: {extended: [server_auth]}
"""
CONTROL = """\
description: Shops
hierarchy: control
requesters: [operators/admin]
keys: [p256]
lifetime: {default: 12h, maximum: 1d}
names: {uri: {maximum: 1, templates: ["spiffe://{trust_domain}/workloads/shop/{name}"]}}
usage: {extended: [client_auth]}
one_identity_per_key: true
"""


def problems(document: str, *, builtin: bool = False) -> dict[str, str]:
    with pytest.raises(ProfileInvalid) as refusal:
        read_profile(document, TRUST_DOMAIN, builtin=builtin)
    return {violation.field: violation.description for violation in refusal.value.violations}


def changed(document: str, **values: object) -> str:
    """The document with other values; `a__b` is the key b of the section a, None takes the key away."""
    hierarchy = yaml.safe_load(document)
    for path, value in values.items():
        *sections, key = path.split("__")
        section = hierarchy
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
        if value is None:
            del section[key]
    return json.dumps(hierarchy)


def test_the_smallest_document_is_read_and_its_defaults_are_filled_in():
    canonical, sha256, profile = read_profile(SMALLEST, TRUST_DOMAIN)
    assert profile.hierarchy is Hierarchy.ESTATE
    assert profile.requesters == {Role.ADMIN}
    assert profile.keys == {KeyType.P256}
    assert profile.default_lifetime == timedelta(days=30)
    assert profile.backdate == timedelta(minutes=5)
    assert profile.common_name is CommonName.FORBIDDEN
    assert profile.key_usage == {KeyUsage.DIGITAL_SIGNATURE}
    assert profile.extended_key_usage == {ExtendedKeyUsage.SERVER_AUTH}
    assert profile.minimum_names == 1
    assert not profile.one_identity_per_key
    assert sha256 == hashlib.sha256(canonical.encode()).digest()
    assert json.loads(canonical)["lifetime"] == {"backdate": "5m", "default": "30d", "maximum": "90d"}
    assert ": " not in canonical


def test_documents_that_mean_the_same_have_one_hash():
    same = [
        changed(SMALLEST),
        changed(SMALLEST, lifetime__backdate="300s", subject={"common_name": "forbidden"}),
        changed(SMALLEST, lifetime__default="720h", names__minimum=1, may_use_reserved_names=False),
        "# a comment\n" + SMALLEST,
    ]
    assert len({read_profile(document, TRUST_DOMAIN)[1] for document in (SMALLEST, *same)}) == 1
    assert (
        read_profile(changed(SMALLEST, lifetime__backdate="4m"), TRUST_DOMAIN)[1]
        != read_profile(SMALLEST, TRUST_DOMAIN)[1]
    )


def test_the_order_of_a_list_means_nothing():
    one = changed(SMALLEST, keys=["p256", "p384"], names__dns__patterns=["a.test", "b.test"])
    other = changed(SMALLEST, keys=["p384", "p256"], names__dns__patterns=["b.test", "a.test"])
    assert read_profile(one, TRUST_DOMAIN) == read_profile(other, TRUST_DOMAIN)


@pytest.mark.parametrize("document", [SMALLEST, CONTROL])
def test_the_canonical_form_is_a_document_that_means_the_same(document):
    canonical, sha256, profile = read_profile(document, TRUST_DOMAIN)
    assert read_profile(canonical, TRUST_DOMAIN) == (canonical, sha256, profile)
    assert profile_from_canonical(canonical) == profile


@for_all(
    examples=200,
    default=st.integers(301, 800_000),
    unit=st.sampled_from("smhd"),
    keys=st.lists(st.sampled_from(sorted(KeyType)), min_size=1, unique=True),
    requesters=st.lists(st.sampled_from(sorted(Role)), min_size=1, unique=True),
    maximum=st.integers(1, 100),
)
def test_every_sound_document_survives_its_canonical_form(default, unit, keys, requesters, maximum):
    size = {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    document = changed(
        SMALLEST,
        lifetime={"default": f"{max(default // size, 301 // size + 1)}{unit}", "maximum": "825d"},
        keys=keys,
        requesters=requesters,
        names__dns__maximum=maximum,
    )
    canonical, sha256, profile = read_profile(document, TRUST_DOMAIN)
    assert read_profile(canonical, TRUST_DOMAIN) == (canonical, sha256, profile)
    assert profile_from_canonical(canonical) == profile


def test_all_problems_are_reported_together_with_the_paths_of_their_keys():
    document = """
        descripton: x
        hierarchy: forest
        requesters: [operators/king]
        keys: [p256, p256]
        lifetime: {default: 90, maximum: 1w, bakdate: 5m}
        names:
          dns: {maximum: 0, patterns: []}
          ip: {maximum: true, networks: [10.0.0.1/8, "10.0.0.0/255.0.0.0"]}
        usage: {key: [], extended: [code_signing]}
    """
    found = problems(document)
    assert set(found) == {
        "descripton",
        "description",
        "hierarchy",
        "requesters[0]",
        "keys",
        "lifetime.default",
        "lifetime.maximum",
        "lifetime.bakdate",
        "names.dns.maximum",
        "names.dns.patterns",
        "names.ip.maximum",
        "names.ip.networks[0]",
        "names.ip.networks[1]",
        "usage.key",
        "usage.extended[0]",
    }
    assert "did you mean 'description'" in found["descripton"]
    assert "did you mean 'backdate'" in found["lifetime.bakdate"]
    assert found["description"] == "the key is missing"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "mapping"),
        ("- a", "mapping"),
        ("a: &x 1", "anchors"),
        ("a: *x", "anchors"),
        ("a: !!python/object/apply:os.system [ls]", "tags"),
        ("a: !!str 1", "tags"),
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("<<: {a: 1}", "plain words"),
        ("1: a", "plain words"),
        ("a: 1\n---\na: 1", "document"),
        ("a: [1", "line 1"),
        ("[" * 60_000, "deeper"),
        ("a: 2026-13-45", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: " + "x" * MAX_DOCUMENT_BYTES, "longer"),
    ],
)
def test_a_text_that_is_not_one_plain_yaml_document_is_refused(text, why):
    assert why in problems(text)["document"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"description": "two\nlines"}, "description"),
        ({"description": "\ud800"}, "description"),
        ({"lifetime__default": "91d"}, "lifetime.default"),
        ({"lifetime__maximum": "826d"}, "lifetime.maximum"),
        ({"lifetime__backdate": "61m"}, "lifetime.backdate"),
        ({"lifetime__default": "5m"}, "lifetime.backdate"),
        ({"lifetime__default": "0d"}, "lifetime.default"),
        ({"lifetime__default": "1.5d"}, "lifetime.default"),
        ({"lifetime__default": "99999999999d"}, "lifetime.default"),
        ({"names": {}}, "names"),
        ({"names__minimum": 2}, "names.minimum"),
        ({"names__minimum": 0}, "names.minimum"),
        ({"names__dns__maximum": 101}, "names.dns.maximum"),
        ({"names__dns__maximum": "1"}, "names.dns.maximum"),
        ({"names__dns__wildcards": "yes"}, "names.dns.wildcards"),
        ({"names__dns__patterns": ["ok.test", "w*.test"]}, "names.dns.patterns[1]"),
        ({"names__dns__patterns": ["*.svc.{trust_domain}"]}, "names.dns.patterns[0]"),
        ({"names__dns__patterns": ["probe.corp.example.test"]}, "names.dns.patterns[0]"),
        ({"names__email": {"maximum": 1, "domains": ["a b"]}}, "names.email.domains[0]"),
        ({"names__uri": {"maximum": 1, "templates": ["https://x/"]}}, "names.uri.templates[0]"),
        ({"names__uri": {"maximum": 1, "templates": ["spiffe://{trust_domain}/x"]}}, "names.uri.templates[0]"),
        ({"names__uri": {"maximum": 1, "templates": ["spiffe://**/x"]}}, "names.uri.templates[0]"),
        ({"names__uri": {"maximum": 1, "templates": ["spiffe://corp.example.test/x"]}}, "names.uri.templates[0]"),
        ({"usage__key": ["key_encipherment"], "keys": ["rsa2048"]}, "usage.key"),
        ({"usage__key": ["digital_signature", "key_encipherment"]}, "usage.key"),
        ({"may_use_reserved_names": True}, "may_use_reserved_names"),
        (
            {"subject": {"common_name": "required"}, "names": {"ip": {"maximum": 1, "networks": ["::/0"]}}},
            "subject.common_name",
        ),
    ],
)
def test_an_unsound_profile_is_refused_at_its_key(changes, field):
    assert field in problems(changed(SMALLEST, **changes))


def test_a_template_for_foreign_spiffe_ids_is_sound_outside_the_control_hierarchy():
    foreign = {"maximum": 1, "templates": ["spiffe://other.test/{path*}"]}
    read_profile(changed(SMALLEST, names__uri=foreign), TRUST_DOMAIN)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"keys": ["p256", "ed25519"]}, "keys"),
        ({"one_identity_per_key": False}, "one_identity_per_key"),
        ({"names__uri__maximum": 2}, "names.uri.maximum"),
        ({"names": {"dns": {"maximum": 1, "patterns": ["a.test"]}}}, "names.uri.maximum"),
        ({"names__ip": {"maximum": 1, "networks": ["::/0"]}}, "names"),
        ({"names__uri__templates": ["spiffe://other.test/workloads/{name}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["https://{trust_domain}/workloads/{name}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/{anything*}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/services/ca/{name}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/operators/{role}/{name}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/operators/admin/bea"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/operators/{path*}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/{kind}/admin/bea"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{trust_domain}/{kind}/{path*}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://{td}/operators/admin/{name}"]}, "names.uri.templates[0]"),
        ({"names__uri__templates": ["spiffe://corp.example.test/operators/admin/bea"]}, "names.uri.templates[0]"),
        (
            {"names__uri__templates": ["spiffe://{trust_domain}/operators/admin/bea"], "may_use_reserved_names": True},
            "names.uri.templates[0]",
        ),
        ({"may_use_reserved_names": True}, "may_use_reserved_names"),
        ({"lifetime__maximum": "8d"}, "lifetime.maximum"),
        ({"lifetime__maximum": "604801s"}, "lifetime.maximum"),
    ],
)
def test_an_unsound_profile_of_the_control_hierarchy_is_refused_at_its_key(changes, field):
    read_profile(CONTROL, TRUST_DOMAIN)
    assert field in problems(changed(CONTROL, **changes))


@pytest.mark.parametrize("kind", ["operators/admin", "services/ca"])
def test_even_a_built_in_profile_must_say_that_it_uses_reserved_identities(kind):
    document = changed(CONTROL, names__uri__templates=[f"spiffe://{{trust_domain}}/{kind}/{{name}}"])
    assert "names.uri.templates[0]" in problems(document, builtin=True)


def test_a_profile_of_the_control_hierarchy_may_live_seven_days():
    read_profile(changed(CONTROL, lifetime__maximum="7d"), TRUST_DOMAIN)


def test_the_built_in_profiles_are_sound_in_any_trust_domain():
    for trust_domain in (TRUST_DOMAIN, "corp", "a.b.c.d.e.test"):
        profiles = builtin_profiles(trust_domain)
        assert tuple(profiles) == BUILTIN_NAMES
        for canonical, sha256, profile in profiles.values():
            assert read_profile(canonical, trust_domain, builtin=True) == (canonical, sha256, profile)
            assert profile_from_canonical(canonical) == profile
            assert profile.backdate == timedelta(minutes=5)


def test_the_built_in_profiles_live_as_long_as_their_use_needs():
    longest = {name: profile.maximum_lifetime for name, (_, _, profile) in builtin_profiles(TRUST_DOMAIN).items()}
    usual = {name: profile.default_lifetime for name, (_, _, profile) in builtin_profiles(TRUST_DOMAIN).items()}
    assert longest["operator"] == timedelta(hours=12)
    assert longest["service"] == timedelta(hours=24)
    assert longest["probe"] == timedelta(hours=1)
    assert usual["client"] == timedelta(days=30)
    assert usual["server"] == timedelta(days=30)
    assert longest["server"] == longest["client"] == timedelta(days=90)


def test_only_service_enrollment_operator_and_probes_may_use_reserved_names():
    profiles = builtin_profiles(TRUST_DOMAIN)
    assert {name for name, (_, _, profile) in profiles.items() if profile.may_use_reserved_names} == {
        "service",
        "enrollment",
        "operator",
        "probe",
        "peer-check",
    }
