"""CA certificates: contents, permitted subjects, and refusals by the check of the result."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from keyreeve.errors import AuthorityRefused, FinalCheckFailed
from keyreeve.values import Hierarchy
from keyreeve_ca.authorities.ca_certificate import issue_authority
from keyreeve_ca.authorities.ca_certificate_check import check_authority
from keyreeve_ca.authorities.ca_certificate_plan import (
    AUTHORITY_KEY_TYPES,
    NameConstraints,
    constraints_of,
    organization_of,
    refuse_unsound,
    standard_issuing,
    standard_root,
)
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.certificates.serials import serial
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.certificates.template import Template
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import (
    NOW,
    SEED,
    STORE,
    TRUST_DOMAIN,
    URL,
    authority,
    plan_for,
)

NUMBER = serial(4, SEED, 0)


def issue_under(signer, issuer, plan, key):
    return issue_authority(plan, key.spki, NUMBER, IssuingSigner(signer), issuer=issuer, crl_shard=2)


def tbs_of(der):
    return x509.load_der_x509_certificate(der).tbs_certificate_bytes


def make_root(path_length=3, constraints=NameConstraints(), hierarchy=Hierarchy.ESTATE, **changes):  # noqa: B008 - a value
    plan = replace(
        standard_root(hierarchy, TRUST_DOMAIN, "some-root", KeyType.P256, NOW),
        path_length=path_length,
        constraints=constraints,
        **changes,
    )
    signer = STORE.open(STORE.generate(KeyType.P256))
    der = issue_authority(plan, signer.spki, serial(3, SEED, 0), IssuingSigner(signer), issuer=None, crl_shard=0)
    return signer, Issuer("some-root", hierarchy, der, KeyType.P256, plan.not_before, plan.not_after, URL)


def below(**changes):
    return replace(standard_issuing(Hierarchy.ESTATE, TRUST_DOMAIN, "below", KeyType.P256, NOW), **changes)


@pytest.mark.parametrize("key_type", sorted(AUTHORITY_KEY_TYPES))
def test_an_authority_is_a_critical_ca_with_its_addresses(key_type):
    made = authority(Hierarchy.ESTATE, key_type)
    root = x509.load_der_x509_certificate(made.root_der)
    issuing = x509.load_der_x509_certificate(made.issuer.certificate_der)
    issuing.verify_directly_issued_by(root)
    root.verify_directly_issued_by(root)
    for certificate, path_length in ((root, 1), (issuing, 0)):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, path_length)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert usage.value.crl_sign
        assert not usage.value.digital_signature
    assert {extension.oid for extension in root.extensions} == {
        x509.AuthorityKeyIdentifier.oid, x509.SubjectKeyIdentifier.oid, x509.KeyUsage.oid, x509.BasicConstraints.oid,
    }  # fmt: skip
    point = issuing.extensions.get_extension_for_class(x509.CRLDistributionPoints).value[0].full_name[0].value
    assert point == f"{URL}/crl/estate-root/3.crl"
    access = issuing.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [each.access_location.value for each in access] == [f"{URL}/ocsp", f"{URL}/ca/estate-root.crt"]


def test_the_estate_may_not_issue_reserved_names_and_no_hierarchy_constrains_uris():
    constraints = {
        hierarchy: constraints_of(x509.load_der_x509_certificate(authority(hierarchy).issuer.certificate_der))
        for hierarchy in Hierarchy
    }
    assert constraints[Hierarchy.ESTATE] == NameConstraints(excluded_dns=("svc.example.test", "probe.example.test"))
    assert constraints[Hierarchy.CONTROL] == NameConstraints()


def test_lifetimes_count_both_ends():
    for certificate, days in ((authority().root_der, 3650), (authority().issuer.certificate_der, 730)):
        parsed = x509.load_der_x509_certificate(certificate)
        life = parsed.not_valid_after_utc - parsed.not_valid_before_utc + timedelta(seconds=1)
        assert life == timedelta(days=days)


def test_all_constraints_are_written_and_read_back():
    constraints = NameConstraints(("example.org",), ("a.example.org",), (".example.org", "x.test"), ("y.test",))
    _, issuer = make_root(constraints=constraints)
    certificate = x509.load_der_x509_certificate(issuer.certificate_der)
    assert constraints_of(certificate) == constraints
    assert certificate.extensions.get_extension_for_class(x509.NameConstraints).critical


def test_a_long_trust_domain_becomes_its_hash_in_the_name():
    assert organization_of("example.test") == "example.test"
    assert len(organization_of("a" * 65)) == 64


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"key_type": KeyType.RSA2048}, "one of"),
        ({"common_name": ""}, "authority's name"),
        ({"common_name": "a\0b"}, "authority's name"),
        ({"common_name": "a\nb"}, "authority's name"),
        ({"common_name": "c" * 65}, "authority's name"),
        ({"organization": "ü"}, "authority's name"),
        ({"not_after": 0}, "before it is valid"),
        ({"path_length": -1}, "path length"),
        ({"path_length": 6}, "path length"),
        ({"constraints": NameConstraints(permitted_dns=("Example.test",))}, "lower-case"),
        ({"constraints": NameConstraints(excluded_dns=(".example.test",))}, "lower-case"),
        ({"constraints": NameConstraints(excluded_uri=("spiffe://x",))}, "lower-case"),
    ],
)
def test_a_plan_that_is_unsound_by_itself_is_refused(change, match):
    with pytest.raises(AuthorityRefused, match=match):
        refuse_unsound(below(**change), b"", None)


def test_an_authority_lives_within_its_issuers_life_to_the_second():
    signer, issuer = make_root()
    key = STORE.generate(KeyType.P256)
    exact = below(not_before=issuer.not_before, not_after=issuer.not_after)
    issue_under(signer, issuer, exact, key)
    for beyond in (replace(exact, not_after=issuer.not_after + 1), replace(exact, not_before=issuer.not_before - 1)):
        with pytest.raises(AuthorityRefused, match="when some-root is not"):
            issue_under(signer, issuer, beyond, key)


def test_path_lengths_run_out():
    signer, issuer = make_root(path_length=1)
    key = STORE.generate(KeyType.P256)
    issue_under(signer, issuer, below(path_length=0), key)
    with pytest.raises(AuthorityRefused, match="path length 1"):
        issue_under(signer, issuer, below(path_length=1), key)
    signer, issuer = make_root(path_length=0)
    with pytest.raises(AuthorityRefused, match="path length 0"):
        issue_under(signer, issuer, below(path_length=0), key)


def test_a_leaf_cannot_issue_certificates():
    issuing = authority()
    plan = plan_for()
    template = Template(plan.profile, issuing.issuer)
    tbs = template.tbs(plan, NUMBER, 0)
    leaf = replace(issuing.issuer, certificate_der=template.certificate(tbs, issuing.signer.sign(tbs)))
    with pytest.raises(AuthorityRefused, match="not a CA"):
        issue_under(issuing.signer, leaf, below(), STORE.generate(KeyType.P256))


def test_an_authority_with_the_name_key_or_hierarchy_of_another_place_is_refused():
    signer, issuer = make_root()
    key = STORE.generate(KeyType.P256)
    with pytest.raises(AuthorityRefused, match="would loop"):
        issue_under(signer, issuer, below(common_name="Keyreeve some-root"), key)
    with pytest.raises(AuthorityRefused, match="key is that of its issuer"):
        refuse_unsound(below(), signer.spki, issuer)
    with pytest.raises(AuthorityRefused, match="hierarchy"):
        issue_under(signer, issuer, below(hierarchy=Hierarchy.CONTROL), key)


def test_an_authority_two_levels_down_cannot_take_the_roots_name():
    signer, root = make_root(path_length=3)
    key = STORE.generate(KeyType.P256)
    plan = below(path_length=2)
    middle = Issuer(
        "middle",
        Hierarchy.ESTATE,
        issue_under(signer, root, plan, key),
        KeyType.P256,
        plan.not_before,
        plan.not_after,
        URL,
    )
    with pytest.raises(AuthorityRefused, match="would loop"):
        issue_under(STORE.open(key), middle, below(common_name="Keyreeve some-root"), STORE.generate(KeyType.P256))


@pytest.mark.parametrize(
    ("inner", "match"),
    [
        (NameConstraints(), "must say which"),
        (NameConstraints(("example.com",), ("x.example.org",), (".test",), ("z.test",)), "cannot permit example.com"),
        (NameConstraints(("badexample.org",), ("x.example.org",), (".test",), ("z.test",)), "cannot permit"),
        (NameConstraints(("example.org",), (), (".test",), ("z.test",)), "must exclude it too"),
        (NameConstraints(("example.org",), ("y.x.example.org",), (".test",), ("z.test",)), "must exclude it too"),
        (NameConstraints(("example.org",), ("x.example.org",), ("test",), ("z.test",)), "cannot permit test"),
        (NameConstraints(("example.org",), ("x.example.org",), (".test",), (".z.test",)), "must exclude it too"),
        (NameConstraints(("a.example.org",), ("example.org",), ("a.test", ".b.test"), (".test", "z.test")), None),
        (NameConstraints(("example.org",), ("x.example.org",), (".test",), ("z.test",)), None),
    ],
)
def test_constraints_nest(inner, match):
    signer, issuer = make_root(
        constraints=NameConstraints(("example.org",), ("x.example.org",), (".test",), ("z.test",))
    )
    key = STORE.generate(KeyType.P256)
    if match is None:
        issue_under(signer, issuer, below(constraints=inner), key)
    else:
        with pytest.raises(AuthorityRefused, match=match):
            issue_under(signer, issuer, below(constraints=inner), key)


def test_a_signature_by_another_key_than_the_issuers_is_thrown_away():
    signer, issuer = make_root()
    stranger = STORE.open(STORE.generate(KeyType.P256))
    with pytest.raises(FinalCheckFailed):
        issue_under(stranger, issuer, below(), STORE.generate(KeyType.P256))
    other = STORE.generate(KeyType.P256)
    root_plan = standard_root(Hierarchy.ESTATE, TRUST_DOMAIN, "r", KeyType.P256, NOW)
    with pytest.raises(FinalCheckFailed, match="verify"):
        issue_authority(root_plan, other.spki, NUMBER, IssuingSigner(signer), issuer=None, crl_shard=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"common_name": "Other"}, "subject"),
        ({"not_after": NOW + 5}, "notAfter"),
        ({"not_before": NOW}, "notBefore"),
        ({"path_length": 1}, "extensions"),
        ({"constraints": NameConstraints(excluded_dns=("x.test",))}, "name constraints"),
        ({"constraints": NameConstraints()}, "extensions"),
    ],
)
def test_a_certificate_that_is_not_the_plan_does_not_pass(change, match):
    signer, issuer = make_root()
    key = STORE.generate(KeyType.P256)
    tbs = tbs_of(issue_under(signer, issuer, below(), key))
    check_authority(tbs, below(), key.spki, NUMBER, issuer=issuer, crl_shard=2)
    with pytest.raises(FinalCheckFailed, match=match):
        check_authority(tbs, below(**change), key.spki, NUMBER, issuer=issuer, crl_shard=2)


def test_a_certificate_of_another_key_serial_or_shard_does_not_pass():
    signer, issuer = make_root()
    key = STORE.generate(KeyType.P256)
    tbs = tbs_of(issue_under(signer, issuer, below(), key))
    for arguments, shard in (
        ((STORE.generate(KeyType.P256).spki, NUMBER), 2),
        ((key.spki, serial(4, SEED, 1)), 2),
        ((key.spki, NUMBER), 3),
    ):
        with pytest.raises(FinalCheckFailed):
            check_authority(tbs, below(), *arguments, issuer=issuer, crl_shard=shard)


def test_a_serial_of_another_form_is_not_signed():
    signer = STORE.open(STORE.generate(KeyType.P256))
    plan = standard_root(Hierarchy.ESTATE, TRUST_DOMAIN, "r", KeyType.P256, NOW)
    with pytest.raises(ValueError, match="serial"):
        issue_authority(plan, signer.spki, b"\x80" * 16, IssuingSigner(signer), issuer=None, crl_shard=0)
