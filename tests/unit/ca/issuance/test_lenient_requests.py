"""Lenient profiles: what a request asks beyond the profile is left out and told; who and what is certified is not."""

from dataclasses import replace

import pytest

from keyreeve import errors
from keyreeve.values import Name, NameType
from keyreeve_ca.certificates.plan import CertificatePlan
from keyreeve_ca.profiles.profile import SubjectAttribute
from keyreeve_ca.requests.csr import CertificateRequest, read_csr
from support.csr_writer import attribute, cn, dns, email, extension, info, rsa_key, san, signed, spki_of, uri
from support.der_writer import bit_string, oid, sequence, tlv
from support.plans import builtin, plan, version_of

WEB = Name(NameType.DNS, "web.example.test")
DNS_WEB = dns(b"web.example.test")
COUNTRY = attribute("2.5.4.6", b"AU", 0x13)
ORGANIZATION = attribute("2.5.4.10", b"Internet Widgits Pty Ltd")
UNIT = attribute("2.5.4.11", b"Operations")
CLIENTS = """
    description: d
    hierarchy: estate
    requesters: [operators/admin]
    keys: [p256]
    lifetime: {default: 1h, maximum: 1h}
    subject: {common_name: optional, common_names: ["app-*"], keep: [C, OU], fixed: {O: Example AS}}
    names:
      email: {maximum: 9, domains: ["**"]}
      dns: {maximum: 9, patterns: ["**"]}
    usage: {extended: [client_auth]}
"""


def request(*names: bytes, subject: bytes = b"", extensions: tuple[bytes, ...] = ()) -> CertificateRequest:
    requested = (san(*names), *extensions) if names else extensions
    return read_csr(signed(info(subject=subject, extensions=requested, attributes=None if requested else b"")))


def ignored(decided: CertificatePlan) -> str:
    return "\n".join(decided.ignored)


def test_the_subject_that_openssls_dialog_asks_for_is_left_out_and_told():
    asked = request(DNS_WEB, subject=COUNTRY + ORGANIZATION + cn(b"web.example.test"))
    decided = plan("server", asked)
    assert (decided.common_name, decided.attributes) == ("web.example.test", ())
    assert decided.ignored == (
        "csr.subject[0]: C (2.5.4.6) 'AU': the profile does not keep it",
        "csr.subject[1]: O (2.5.4.10) 'Internet Widgits Pty Ltd': the profile does not keep it",
    )


def test_a_request_within_the_profile_has_nothing_ignored():
    assert plan("server", request(DNS_WEB, subject=cn(b"web.example.test"))).ignored == ()


@pytest.mark.parametrize(
    ("requested", "told"),
    [
        (extension("2.5.29.14", bytes.fromhex("040161")), "subject key identifier"),
        (extension("2.5.29.15", bit_string(b"\xe0", 5)), "key usage content_commitment"),
        (extension("2.5.29.15", bit_string(b"\x80", 0)), "key usage is not in its shortest form"),
        (extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.2"))), "extended key usage client_auth"),
        (extension("1.3.6.1.4.1.311.20.2", tlv(0x1E, b"\x00W")), "Microsoft certificate template name"),
        (extension("1.2.840.113549.1.9.15", sequence()), "S/MIME capabilities"),
    ],
)
def test_an_extension_beyond_the_profile_is_left_out_and_told(requested: bytes, told: str):
    assert told in ignored(plan("server", request(DNS_WEB, extensions=(requested,))))


def test_a_usage_that_all_rsa_requests_have_is_left_out_for_an_elliptic_curve_key():
    usage = (extension("2.5.29.15", bit_string(b"\xa0", 5)),)
    assert "key_encipherment" in ignored(plan("server", request(DNS_WEB, extensions=usage)))
    rsa = read_csr(signed(info(spki=spki_of(rsa_key()), extensions=(san(DNS_WEB), *usage)), rsa_key()))
    assert plan("server", rsa).ignored == ()


@pytest.mark.parametrize(
    "requested",
    [
        extension("2.5.29.19", sequence(b"\x01\x01\xff"), b"\x01\x01\xff"),
        extension("2.5.29.19", sequence(b"\x01\x01\x01")),
        extension("2.5.29.15", bit_string(b"\x04", 2)),
        extension("2.5.29.15", bit_string(b"\x02", 1)),
    ],
)
def test_a_request_for_a_ca_certificate_is_refused(requested: bytes):
    with pytest.raises(errors.ExtensionRefused):
        plan("server", request(DNS_WEB, extensions=(requested,)))


def test_a_type_of_name_that_the_profile_lacks_is_left_out_if_a_name_remains():
    decided = plan("server", request(email(b"root@example.test"), DNS_WEB, uri(b"https://example.test/")))
    assert decided.names == (WEB,)
    assert "csr.subject_alternative_name[0]" in decided.ignored[0]
    assert "csr.subject_alternative_name[2]" in decided.ignored[1]
    with pytest.raises(errors.NameRefused, match="email"):
        plan("server", request(email(b"root@example.test")))
    with pytest.raises(errors.NameRefused, match="email"):
        plan("server", request(DNS_WEB), [Name(NameType.EMAIL, "root@example.test")])


def test_a_name_outside_the_policy_refuses_the_request_beside_one_that_is_left_out():
    with pytest.raises(errors.NameRefused) as refusal:
        plan("server", request(email(b"root@example.test"), DNS_WEB, dns(b"ca.svc.corp.example.test")))
    assert [violation.field for violation in refusal.value.violations] == ["csr.subject_alternative_name[2]"]


@pytest.mark.parametrize(("text", "name"), [(b"web.example.test", WEB), (b"10.0.0.1", Name(NameType.IP, "10.0.0.1"))])
def test_a_request_without_names_asks_for_its_common_name(text: bytes, name: Name):
    assert plan("server", request(subject=COUNTRY + cn(text))).names == (name,)


def test_a_common_name_outside_the_policy_is_refused_as_a_name():
    with pytest.raises(errors.NameRefused, match="reserved"):
        plan("server", request(subject=cn(b"ca.svc.corp.example.test")))
    with pytest.raises(errors.NameMissing):
        plan("server", request(subject=cn(b"Web Server")))


@pytest.mark.parametrize(
    ("tag", "content"), [(0x14, b"web.example.test"), (0x1E, "web.example.test".encode("utf-16-be"))]
)
def test_a_common_name_in_an_old_string_type_is_read(tag: int, content: bytes):
    assert plan("server", request(DNS_WEB, subject=cn(content, tag))).common_name == "web.example.test"


def test_the_value_of_a_challenge_password_is_never_told():
    challenge = sequence(oid("1.2.840.113549.1.9.7"), tlv(0x31, tlv(0x0C, b"abcdefgh")))
    requested = sequence(oid("1.2.840.113549.1.9.14"), tlv(0x31, sequence(san(DNS_WEB))))
    decided = plan("server", read_csr(signed(info(attributes=challenge + requested))))
    assert decided.ignored == ("csr.attributes: challengePassword (1.2.840.113549.1.9.7)",)


def test_a_profile_keeps_fixes_and_drops_attributes_of_the_subject():
    subject = UNIT + COUNTRY + ORGANIZATION + attribute("2.5.4.7", b"Oslo") + cn(b"app-1")
    decided = plan(version_of(CLIENTS), request(DNS_WEB, subject=subject))
    assert decided.common_name == "app-1"
    assert decided.attributes == (
        (SubjectAttribute.C, "AU"),
        (SubjectAttribute.O, "Example AS"),
        (SubjectAttribute.OU, "Operations"),
    )
    assert ignored(decided).count("\n") == 1
    assert "O (2.5.4.10)" in ignored(decided)
    assert "L (2.5.4.7)" in ignored(decided)


@pytest.mark.parametrize("subject", [attribute("2.5.4.6", b"Norway", 0x13), attribute("2.5.4.11", b"u" * 65)])
def test_a_kept_attribute_that_its_type_does_not_allow_is_left_out(subject: bytes):
    decided = plan(version_of(CLIENTS), request(DNS_WEB, subject=subject))
    assert [attribute for attribute, _ in decided.attributes] == [SubjectAttribute.O]
    assert len(decided.ignored) == 1


@pytest.mark.parametrize("text", ["app-", "postgres", " app-1", "app-" + "x" * 61, "app-\u202e1"])
def test_a_requested_common_name_that_the_profile_does_not_allow_is_refused(text: str):
    with pytest.raises(errors.SubjectRefused):
        plan(version_of(CLIENTS), request(DNS_WEB), common_name=text)
    if text.isprintable():
        assert plan(version_of(CLIENTS), request(DNS_WEB, subject=cn(text.encode()))).common_name is None


def test_a_requested_common_name_replaces_the_one_of_the_request():
    decided = plan("client", request(DNS_WEB, subject=cn(b"Alice Example")), common_name="alice")
    assert decided.common_name == "alice"
    assert "another CN is requested" in ignored(decided)
    assert plan("client", request(DNS_WEB, subject=cn("Zoë".encode()))).common_name == "Zoë"


def test_a_servers_common_name_is_one_of_its_dns_names_whatever_is_requested():
    with pytest.raises(errors.SubjectRefused, match="not one of the DNS names"):
        plan("server", request(DNS_WEB), common_name="alice")
    with pytest.raises(errors.ProfileInvalid, match=r"subject\.common_names"):
        version_of(CLIENTS.replace("client_auth", "client_auth, server_auth"))


def test_a_fixed_attribute_that_is_also_kept_or_unfit_is_refused():
    for fixed in ("{OU: x}", "{C: Norway}", "{emailAddress: nobody}"):
        with pytest.raises(errors.ProfileInvalid, match=r"subject\.fixed"):
            version_of(CLIENTS.replace("{O: Example AS}", fixed))


def test_what_is_told_of_a_request_is_limited():
    usages = sequence(*(oid(f"1.2.3.{n}") for n in range(32)))
    subject = b"".join(attribute("2.5.4.11", b"u%d" % n) for n in range(16))
    decided = plan("server", request(DNS_WEB, subject=subject, extensions=(extension("2.5.29.37", usages),)))
    assert len(decided.ignored) == 32
    assert decided.ignored[-1] == "17 others"


def test_a_strict_profile_grants_what_it_granted():
    strict = replace(builtin("server"), profile=version_of(CLIENTS + "    requests: strict\n").profile)
    with pytest.raises(errors.SubjectRefused):
        plan(strict, request(DNS_WEB, subject=attribute("2.5.4.7", b"Oslo")))
