"""The issuance policy: plans from requests and profiles, and every refusal by its reason."""

from dataclasses import replace
from datetime import timedelta

import pytest

from keyreeve import errors
from keyreeve.identity import Role
from keyreeve.values import Hierarchy, Name, NameType
from keyreeve_ca.certificates.plan import CertificatePlan
from keyreeve_ca.issuance.policy import check_requester, plan_certificate
from keyreeve_ca.profiles.profile import UriRule
from keyreeve_ca.requests.csr import CertificateRequest, read_csr
from keyreeve_ca.requests.key_rules import KnownKeys
from support.csr_writer import cn, dns, ec_key, email, extension, info, ip, rsa_key, san, signed, spki_of, uri
from support.der_writer import bit_string, oid, sequence
from support.plans import NOW, TRUST_DOMAIN, builtin, issuer, plan, strict, version_of


def request(*names: bytes, subject: bytes = b"", extensions: tuple[bytes, ...] = (), key=None) -> CertificateRequest:
    requested = (san(*names), *extensions) if names else extensions
    attributes = None if requested else b""
    spki = spki_of(key) if key else None
    return read_csr(signed(info(subject=subject, extensions=requested, attributes=attributes, spki=spki), key))


def spiffe(path: str, trust_domain: str = TRUST_DOMAIN) -> bytes:
    return uri(f"spiffe://{trust_domain}/{path}".encode())


WEB = Name(NameType.DNS, "web.example.test")
WWW = Name(NameType.DNS, "www.example.test")
DNS_WEB = dns(b"web.example.test")


def names_of(decided: CertificatePlan) -> list[str]:
    return [str(name) for name in decided.names]


def test_a_plan_holds_the_key_and_the_names_of_the_request_then_those_of_the_parameters():
    asked = request(DNS_WEB, ip(bytes((10, 0, 0, 1))), DNS_WEB)
    decided = plan("server", asked, [WWW, WEB])
    assert names_of(decided) == ["dns:web.example.test", "ip:10.0.0.1", "dns:www.example.test"]
    assert decided.spki == asked.spki
    assert decided.profile is builtin("server")
    assert decided.common_name is None
    assert decided.not_after - decided.not_before + 1 == 30 * 86_400
    assert decided.not_before == NOW - 300


def test_a_cn_is_taken_when_it_is_one_of_the_dns_names():
    assert plan("server", request(DNS_WEB, subject=cn(b"web.example.test"))).common_name == WEB.value
    assert plan("server", request(subject=cn(b"www.example.test")), [WEB, WWW]).common_name == WWW.value


@pytest.mark.parametrize("subject", [cn(b"10.0.0.1"), cn(b"other.example.test"), cn(b"WEB.example.test")])
def test_a_cn_that_is_no_dns_name_of_the_request_is_refused_by_a_strict_profile(subject):
    with pytest.raises(errors.SubjectRefused) as refusal:
        plan(strict("server"), request(DNS_WEB, ip(bytes((10, 0, 0, 1))), subject=subject))
    [violation] = refusal.value.violations
    assert violation.field == "csr.subject[0]"
    assert violation.description.endswith("the CN is not one of the DNS names asked for")


def test_every_attribute_of_the_subject_but_the_cn_is_refused_by_name_by_a_strict_profile():
    organization = bytes.fromhex("310b3009060355040a0c024142")
    country = bytes.fromhex("310b3009060355040613024142")
    with pytest.raises(errors.SubjectRefused) as refusal:
        plan(strict("server"), request(DNS_WEB, subject=country + cn(b"web.example.test") + organization))
    assert [violation.field for violation in refusal.value.violations] == ["csr.subject[0]", "csr.subject[2]"]
    assert "C (2.5.4.6)" in refusal.value.violations[0].description
    assert "O (2.5.4.10)" in refusal.value.violations[1].description


def test_a_required_cn_is_the_first_dns_name_and_no_name_too_long_for_it():
    assert plan("array-peer", request(DNS_WEB)).common_name == WEB.value
    longest = b"a" * 50 + b".example.test7"
    assert len(longest) == 64
    assert plan("array-peer", request(dns(longest))).common_name == longest.decode()
    with pytest.raises(errors.SubjectRefused, match="64"):
        plan("array-peer", request(dns(b"b" + longest)))


def test_a_name_too_long_for_a_cn_is_no_obstacle_where_none_is_required():
    assert plan("server", request(dns(b"a" * 63 + b".example.test"))).common_name is None


def test_a_cn_is_refused_where_the_profile_has_none():
    with pytest.raises(errors.SubjectRefused, match="without a CN"):
        plan("operator", request(spiffe("operators/admin/ann"), subject=cn(b"ann")))


def test_every_bad_name_is_listed_with_its_place():
    asked = request(DNS_WEB, dns(b"a\x00b"), bytes.fromhex("a4023000"), ip(bytes(4)), uri(b"https://h/"))
    with pytest.raises(errors.NameRefused) as refusal:
        plan(
            strict("server"),
            asked,
            [WEB, Name(NameType.DNS, "ca.svc." + TRUST_DOMAIN), Name(NameType.EMAIL, "a@b.test")],
        )
    assert {violation.field for violation in refusal.value.violations} == {
        *(f"csr.subject_alternative_name[{at}]" for at in (1, 2, 3, 4)),
        "names[1]",
        "names[2]",
    }
    assert "6 names" in refusal.value.message
    assert "\\x00" in next(
        v.description for v in refusal.value.violations if v.field.endswith("[1]") and "csr" in v.field
    )


@pytest.mark.parametrize("position", range(100))
def test_a_bad_name_is_found_in_every_position_of_the_parameters(position):
    names = [Name(NameType.DNS, f"host-{n}.example.test") for n in range(100)]
    names[position] = Name(NameType.DNS, "ca.svc." + TRUST_DOMAIN)
    with pytest.raises(errors.NameRefused) as refusal:
        plan("server", request(), names)
    assert [violation.field for violation in refusal.value.violations] == [f"names[{position}]"]


@pytest.mark.parametrize("profile", ["server", "client", "array-peer"])
@pytest.mark.parametrize(
    "name",
    [
        f"svc.{TRUST_DOMAIN}",
        f"ca.svc.{TRUST_DOMAIN}",
        f"a.b.svc.{TRUST_DOMAIN}",
        f"probe.{TRUST_DOMAIN}",
        f"x.probe.{TRUST_DOMAIN}",
        f"*.svc.{TRUST_DOMAIN}",
        f"*.probe.{TRUST_DOMAIN}",
        f"*.{TRUST_DOMAIN}",
    ],
)
def test_reserved_names_are_refused_whatever_the_profile_says(profile, name):
    version = builtin(profile)
    generous = replace(version, profile=replace(version.profile, dns=replace(version.profile.dns, wildcards=True)))
    with pytest.raises(errors.NameRefused, match="reserved"):
        plan(generous, request(), [Name(NameType.DNS, name)])


def test_names_beside_the_reserved_ones_are_no_matter():
    plan("server", request(), [Name(NameType.DNS, f"web.{TRUST_DOMAIN}"), Name(NameType.DNS, f"*.web.{TRUST_DOMAIN}")])
    plan("server", request(), [Name(NameType.DNS, f"xsvc.{TRUST_DOMAIN}"), Name(NameType.DNS, "*.example.test")])


@pytest.mark.parametrize(
    "name",
    [
        Name(NameType.EMAIL, f"root@svc.{TRUST_DOMAIN}"),
        Name(NameType.URI, f"https://ca.svc.{TRUST_DOMAIN}/x"),
        Name(NameType.URI, f"https://{TRUST_DOMAIN}/operators/admin/eve"),
        Name(NameType.URI, f"spiffe://{TRUST_DOMAIN}/operators/admin/eve"),
    ],
)
def test_identities_and_reserved_hosts_are_refused_outside_the_control_hierarchy(name):
    with pytest.raises(errors.NameRefused):
        plan("client", request(DNS_WEB), [name])


def test_an_estate_profile_for_foreign_spiffe_ids_still_gives_none_of_ours():
    version = builtin("client")
    anything = replace(version.profile.uri, templates=("spiffe://**/{path*}",))
    version = replace(version, profile=replace(version.profile, uri=anything))
    plan(version, request(spiffe("a/b", "other.test")))
    with pytest.raises(errors.NameRefused, match="control hierarchy alone"):
        plan(version, request(spiffe("a/b")))


@pytest.mark.parametrize(
    ("profile", "names"),
    [
        ("service", [spiffe("services/ca/one"), dns(b"ca.svc." + TRUST_DOMAIN.encode())]),
        ("operator", [spiffe("operators/admin/ann")]),
        ("member", [spiffe("members/db-1.example.test")]),
        ("member", [spiffe("members/db1")]),
        ("workload", [spiffe("workloads/shop/basket/7")]),
        ("probe", [dns(b"n0nce.probe." + TRUST_DOMAIN.encode())]),
        ("array-peer", [dns(b"db-1.example.test")]),
        ("server", [dns(b"*.example.test"), ip(bytes((10, 0, 0, 1))), ip(b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01")]),
        ("client", [email(b"ann@example.test"), uri(b"https://example.test/ann"), uri(b"https://example.test")]),
    ],
)
def test_each_built_in_profile_gives_its_names(profile, names):
    decided = plan(profile, request(*names))
    assert len(decided.names) == len(names)
    assert decided.not_after - decided.not_before + 1 == decided.profile.profile.default_lifetime.total_seconds()


@pytest.mark.parametrize(
    ("profile", "names", "why"),
    [
        ("service", [spiffe("services/ca/one"), dns(b"membership.svc." + TRUST_DOMAIN.encode())], "two meanings"),
        ("service", [spiffe("services/web/one"), dns(b"web.svc." + TRUST_DOMAIN.encode())], "forms of an identity"),
        ("service", [spiffe("services/ca/one"), dns(b"ca.svc.other.test")], "patterns"),
        ("service", [spiffe("services/ca/one", "other.test"), dns(b"ca.svc." + TRUST_DOMAIN.encode())], "SPIFFE ID"),
        ("operator", [spiffe("operators/king/ann")], "forms of an identity"),
        ("operator", [spiffe("operators/admin/ann/2")], "forms of an identity"),
        ("operator", [spiffe("operators/admin/Ann")], "lower case"),
        ("operator", [spiffe("members/ann")], "patterns"),
        ("operator", [spiffe("services/ca/one")], "reserved to the built-in"),
        ("operator", [uri(b"https://example.test/ann")], "SPIFFE ID"),
        ("operator", [spiffe("operators/admin/ann"), DNS_WEB], "allows no dns names"),
        ("member", [spiffe("members/-x")], "DNS name"),
        ("member", [spiffe("members/10.0.0.1")], "DNS name"),
        ("member", [spiffe("members/a_b")], "DNS name"),
        ("workload", [spiffe("workloads/Shop")], "lower case"),
        ("workload", [spiffe("workloads")], "forms of an identity"),
        ("probe", [dns(b"a.b.probe." + TRUST_DOMAIN.encode())], "patterns"),
        ("probe", [dns(b"ca.svc." + TRUST_DOMAIN.encode())], "patterns"),
        ("array-peer", [dns(b"*.example.test")], "wildcards"),
        ("client", [dns(b"*.example.test")], "wildcards"),
        ("client", [ip(bytes((10, 0, 0, 1)))], "allows no ip names"),
        ("client", [uri(b"http://example.test/a")], "patterns"),
    ],
)
def test_names_outside_a_built_in_profile_are_refused(profile, names, why):
    with pytest.raises(errors.NameRefused, match=why):
        plan(profile, request(*names))


@pytest.mark.parametrize(
    ("profile", "names", "reason"),
    [
        ("operator", [], errors.NameMissing),
        ("service", [spiffe("services/ca/one")], errors.NameMissing),
        ("array-peer", [], errors.NameMissing),
        ("server", [], errors.NameMissing),
        ("operator", [spiffe("operators/admin/ann"), spiffe("operators/admin/bob")], errors.TooManyNames),
        ("array-peer", [DNS_WEB, dns(b"www.example.test")], errors.TooManyNames),
    ],
)
def test_the_number_of_names_is_within_the_profiles_bounds(profile, names, reason):
    with pytest.raises(reason):
        plan(profile, request(*names))


def test_a_certificate_of_the_control_hierarchy_without_a_uri_is_refused():
    document = """
        description: d
        hierarchy: control
        requesters: [operators/admin]
        keys: [p256]
        lifetime: {default: 1h, maximum: 1h}
        names:
          dns: {maximum: 1, patterns: ["**.example.test"]}
          uri: {maximum: 1, templates: ["spiffe://{trust_domain}/workloads/{path*}"]}
        usage: {extended: [client_auth]}
        one_identity_per_key: true
    """
    version = version_of(document)
    plan(version, request(DNS_WEB, spiffe("workloads/a")))
    with pytest.raises(errors.NameMissing, match="SPIFFE ID"):
        plan(version, request(DNS_WEB))


def test_a_variable_means_the_same_in_every_name_and_any_pattern_may_give_it():
    document = """
        description: d
        hierarchy: estate
        requesters: [operators/admin]
        keys: [p256]
        lifetime: {default: 1h, maximum: 1h}
        names:
          dns:
            maximum: 9
            patterns: ["{host}.{site}.example.test", "{site}.{host}.example.test", "{site}.example.test", "free.test"]
        usage: {extended: [server_auth]}
    """
    version = version_of(document)

    def asked(*names):
        return plan(version, request(), [Name(NameType.DNS, name) for name in names])

    asked("a.b.example.test", "b.a.example.test", "b.example.test", "free.test")
    asked("a.b.example.test", "b.a.example.test", "a.example.test")
    asked("b.example.test", "a.b.example.test")
    for names in (
        ("a.b.example.test", "c.example.test"),
        ("a.b.example.test", "a.c.example.test"),
        ("a.example.test", "b.example.test"),
        ("free.test", "a.example.test", "b.example.test"),
    ):
        with pytest.raises(errors.NameRefused, match="two meanings"):
            asked(*names)


def key_usage(content: bytes, unused: int) -> bytes:
    return extension("2.5.29.15", bit_string(content, unused))


def purposes(*dotted: str) -> bytes:
    return extension("2.5.29.37", sequence(*map(oid, dotted)))


SERVER_AUTH, CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"


def test_requested_extensions_that_the_profile_allows_are_accepted():
    requested_extensions = (key_usage(b"\x80", 7), purposes(SERVER_AUTH), extension("2.5.29.19", sequence()))
    plan("server", request(DNS_WEB, extensions=requested_extensions))
    plan("server", request(DNS_WEB, extensions=(key_usage(b"\xa0", 5),), key=rsa_key()))


@pytest.mark.parametrize(
    ("requested", "why"),
    [
        (key_usage(b"\xa0", 5), "key_encipherment to p256 keys"),
        (key_usage(b"\x86", 1), "key usage crl_sign, the key usage key_cert_sign"),
        (purposes(SERVER_AUTH, CLIENT_AUTH), "extended key usage client_auth"),
        (purposes("1.2.3.4"), "extended key usage 1.2.3.4"),
        (extension("2.5.29.14", bytes.fromhex("040161")), "subject key identifier"),
    ],
)
def test_an_extension_that_the_profile_does_not_allow_is_refused_by_name_by_a_strict_profile(requested, why):
    with pytest.raises(errors.ExtensionRefused, match=why) as refusal:
        plan(strict("server"), request(DNS_WEB, extensions=(requested,)))
    assert all(violation.field == "csr.extensions" for violation in refusal.value.violations)


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("operators/admin/bea", "operators/{role}/{name}"),
        ("operators/auditor/bea", "operators/auditor/bea"),
        ("operators/admin/bea", "{path*}"),
        ("operators/operator/bea", "{kind}/{role}/{name}"),
        ("services/ca/one", "{path*}"),
        ("services/gateway/one", "services/{service}/{instance}"),
    ],
)
def test_a_profile_stored_earlier_cannot_issue_identities_of_operators_or_services(path, template):
    profile = replace(builtin("workload").profile, uri=UriRule(1, (f"spiffe://{{trust_domain}}/{template}",)))
    stored = replace(builtin("workload"), name="mine", profile=profile)
    with pytest.raises(errors.NameRefused, match="reserved to the built-in profiles"):
        plan(stored, request(spiffe(path)))


def test_a_key_of_another_type_a_blocked_key_and_the_cas_own_are_refused():
    asked = request(DNS_WEB)
    version = builtin("server")
    narrow = replace(version, profile=replace(version.profile, keys=frozenset({"rsa2048"})))
    with pytest.raises(errors.KeyTypeRefused) as refusal:
        plan(narrow, asked)
    assert refusal.value.metadata["allowed"] == "rsa2048"
    for known in (KnownKeys(blocked={asked.spki_sha256}), KnownKeys(own={asked.spki_sha256})):
        with pytest.raises(errors.KeyBlocked):
            plan("server", asked, known=known)
    plan("server", request(DNS_WEB, key=ec_key(8)), known=KnownKeys(blocked={asked.spki_sha256}))


def test_a_halted_profile_and_an_authority_of_another_hierarchy_issue_nothing():
    version = builtin("server")
    with pytest.raises(errors.ProfileHalted):
        plan(replace(version, halted=True), request(DNS_WEB))
    with pytest.raises(errors.FieldInvalid, match="of hierarchy control"):
        plan_certificate(
            version,
            request(DNS_WEB),
            extra_names=(),
            lifetime=None,
            now=NOW,
            issuer=issuer(Hierarchy.CONTROL),
            trust_domain=TRUST_DOMAIN,
            known=KnownKeys(),
        )


def test_a_requested_lifetime_is_granted_to_the_second():
    decided = plan("server", request(DNS_WEB), lifetime=timedelta(seconds=4000))
    assert decided.not_after - decided.not_before + 1 == 4000


REQUESTERS = {
    "service": {Role.CA},
    "operator": {Role.CA},
    "member": {Role.ADMIN, Role.CA},
    "workload": {Role.ADMIN, Role.CA},
    "probe": {Role.MEMBERSHIP},
    "array-peer": {Role.MEMBERSHIP},
    "server": {Role.ADMIN, Role.OPERATOR, Role.WORKLOAD, Role.MEMBER},
    "client": {Role.ADMIN, Role.OPERATOR, Role.WORKLOAD},
}


@pytest.mark.parametrize("profile", REQUESTERS)
@pytest.mark.parametrize("role", Role)
def test_a_profile_is_only_for_its_requesters(profile, role):
    if role in REQUESTERS[profile]:
        check_requester(builtin(profile), role)
        return
    with pytest.raises(errors.ProfileNotAllowed) as refusal:
        check_requester(builtin(profile), role)
    assert refusal.value.metadata["allowed"] == ", ".join(sorted(REQUESTERS[profile]))
