"""Names and requested extensions in SignCertificate: what is granted, and refusals with their position."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyreeve import Name
from keyreeve.keys import make_csr, make_key
from keyreeve.request_ids import new_request_id
from keyreeve.values import SignedCertificate, SignItem
from support.running_ca import RunningCa, refused, server_csr, some_key, unique

# --- Names --------------------------------------------------------------------------------------------------------------


def test_the_names_are_those_of_the_request_then_those_beside_it_each_once(ca: RunningCa):
    csr = make_csr(some_key(), [Name.dns("b.example.test"), Name.dns("a.example.test"), Name.ip("192.0.2.1")])
    extra = [Name.dns("a.example.test"), Name.dns("c.example.test"), Name.ip("192.0.2.1"), Name.ip("2001:db8::1")]
    signed = ca.client().certificates.sign("server", csr, names=[*extra, *extra])
    san = x509.load_der_x509_certificate(signed.certificate_der).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert san.critical, "the subject is empty (RFC 5280, 4.2.1.6)"
    assert san.value.get_values_for_type(x509.DNSName) == ["b.example.test", "a.example.test", "c.example.test"]
    assert [str(a) for a in san.value.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    assert ca.client().certificates.get(signed.serial).identity == "b.example.test"


@pytest.mark.parametrize(
    "name",
    [
        "ca.svc.example.test",
        "x.probe.example.test",
        "svc.example.test",
        "*.example.test",
        "WEB.example.test",
        "web.example.test.",
        "web..test",
        "-web.test",
        "web_1.test",
        "192.0.2.1",
        "bücher.test",
        "a b.test",
        "x" * 64 + ".test",
    ],
)
def test_a_forbidden_name_beside_the_request_is_refused_by_its_place(ca: RunningCa, name: str):
    names = [Name.dns("good.example.test"), Name.dns(name)]
    told = refused(lambda: ca.client().certificates.sign("server", server_csr("web.example.test"), names=names))
    assert told.reason == "NAME_REFUSED"
    assert [v.field for v in told.violations] == ["names[1]"]


@pytest.mark.parametrize("text", ["web\0.example.test", "web\n.example.test", "web\u202e.test"])
def test_control_characters_in_a_name_are_refused_and_never_repeated_raw(ca: RunningCa, text: str):
    told = refused(
        lambda: ca.client().certificates.sign("server", server_csr("web.example.test"), names=[Name.dns(text)])
    )
    assert told.reason == "NAME_REFUSED"
    assert told.message.isprintable()
    assert all(v.description.isprintable() for v in told.violations)


def test_every_bad_name_of_a_request_is_listed(ca: RunningCa):
    csr = make_csr(some_key(), [Name.dns("ok.test"), Name.dns("ca.svc.example.test"), Name.dns("UPPER.test")])
    told = refused(lambda: ca.client().certificates.sign("server", csr, names=[Name.ip("999.1.1.1")]))
    assert told.reason == "NAME_REFUSED"
    assert [v.field for v in told.violations] == [
        "csr.subject_alternative_name[1]",
        "csr.subject_alternative_name[2]",
        "names[0]",
    ]


def test_the_number_of_names_is_the_profiles_to_the_last_one(ca: RunningCa):
    profile = ca.profile(names={"dns": {"maximum": 3, "patterns": ["**"]}})
    three = [f"{n}.example.test" for n in range(3)]
    ca.client().certificates.sign(profile, server_csr(*three))
    told = refused(lambda: ca.client().certificates.sign(profile, server_csr(*three, "3.example.test")))
    assert (told.reason, told.metadata["max_names"]) == ("TOO_MANY_NAMES", "3")


def test_an_identity_of_another_trust_domain_or_form_is_refused(ca: RunningCa):
    for uri in (
        "spiffe://other.test/workloads/x",
        "spiffe://example.test/workloads/X",
        "spiffe://example.test/operators/admin/x",
        "spiffe://example.test/workloads/../operators/admin/x",
        "spiffe://example.test/services/ca/x",
        "https://example.test/",
    ):
        csr = make_csr(some_key(), [Name.uri(uri)])
        assert refused(lambda csr=csr: ca.client().certificates.sign("workload", csr)).reason == "NAME_REFUSED", uri


def test_no_estate_certificate_names_an_identity_of_the_control_plane(ca: RunningCa):
    csr = make_csr(some_key(), [Name.uri("spiffe://example.test/operators/admin/ann")])
    assert refused(lambda: ca.client().certificates.sign("client", csr)).reason == "NAME_REFUSED"


def test_a_request_without_any_name_is_refused_unless_its_common_name_is_one(ca: RunningCa):
    assert refused(lambda: ca.client().certificates.sign("server", server_csr())).reason == "NAME_MISSING"
    csr = make_csr(some_key(), common_name="Web Server")
    assert refused(lambda: ca.client().certificates.sign("server", csr)).reason == "NAME_MISSING"
    signed = ca.client().certificates.sign("server", make_csr(some_key(), common_name="web.example.test"))
    assert ca.client().certificates.get(signed.serial).identity == "web.example.test"


def test_a_key_belongs_to_one_identity_in_the_control_hierarchy(ca: RunningCa):
    key, name = make_key(), unique("w")
    first, other = (make_csr(key, [Name.uri(f"spiffe://example.test/workloads/{name}/{n}")]) for n in (1, 2))
    ca.client().certificates.sign("workload", first)
    ca.client().certificates.sign("workload", first)
    told = refused(lambda: ca.client().certificates.sign("workload", other))
    assert told.reason == "KEY_REUSED"
    ca.client().certificates.sign("server", make_csr(key, [Name.dns("web.example.test")]))


# --- Requested extensions -----------------------------------------------------------------------------------------------


def requesting(*extensions: tuple[x509.ExtensionType, bool], subject: x509.Name | None = None) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("web.example.test")]), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    key = some_key()
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("extension", "named"),
    [
        (x509.BasicConstraints(ca=True, path_length=None), "basic constraints of a CA"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), "code_signing"),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), "client_auth"),
        (x509.KeyUsage(True, False, False, False, False, True, False, False, False), "key_cert_sign"),
        (x509.TLSFeature([x509.TLSFeatureType.status_request]), "TLS feature"),
        (x509.SubjectKeyIdentifier(b"x" * 20), "subject key identifier"),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), "1.2.3.4"),
    ],
)
def test_a_requested_extension_that_is_not_granted_is_refused_by_name_by_a_strict_profile(
    ca: RunningCa, extension: x509.ExtensionType, named: str
):
    strict = ca.profile(requests="strict")
    told = refused(lambda: ca.client().certificates.sign(strict, requesting((extension, False))))
    assert told.reason == "EXTENSION_REFUSED"
    assert named in told.violations[0].description


def test_requested_extensions_that_the_profile_gives_anyway_are_accepted(ca: RunningCa):
    csr = requesting(
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.KeyUsage(True, False, False, False, False, False, False, False, False), True),
    )
    ca.client().certificates.sign("server", csr)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [(NameOID.COMMON_NAME, "other.example.test"), (NameOID.ORGANIZATION_NAME, "Us"), (NameOID.COUNTRY_NAME, "DE")],
)
def test_a_subject_beyond_one_of_the_names_is_refused_by_a_strict_profile(
    ca: RunningCa, attribute: x509.ObjectIdentifier, value: str
):
    csr = requesting(subject=x509.Name([x509.NameAttribute(attribute, value)]))
    told = refused(lambda: ca.client().certificates.sign(ca.profile(requests="strict"), csr))
    assert told.reason == "SUBJECT_REFUSED"
    assert told.violations[0].field == "csr.subject[0]"


# --- What a lenient profile leaves out -------------------------------------------------------------------------------------


def test_what_is_left_out_is_told_in_the_answer_in_a_batch_and_in_the_ledger(ca: RunningCa):
    csr = requesting(
        (x509.SubjectKeyIdentifier(b"x" * 20), False),
        subject=x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Us")]),
    )
    told = (
        "csr.subject[0]: O (2.5.4.10) 'Us': the profile does not keep it",
        "csr.extensions: extension subject key identifier (2.5.29.14)",
    )
    certificates, request_id = ca.client().certificates, new_request_id()
    signed = certificates.sign("server", csr, request_id=request_id)
    assert signed.ignored == told
    assert certificates.sign("server", csr, request_id=request_id).ignored == told, "the same answer to a repeat"
    assert certificates.get(signed.serial).ignored == told
    [of_batch] = certificates.sign_many([SignItem("server", csr)])
    assert isinstance(of_batch, SignedCertificate)
    assert of_batch.ignored == told
    assert x509.load_der_x509_certificate(signed.certificate_der).subject == x509.Name([])


def test_kept_and_fixed_attributes_and_a_common_name_are_in_the_certificate_and_its_renewal(ca: RunningCa):
    profile = ca.profile(
        subject={
            "common_name": "optional",
            "common_names": ["*"],
            "keep": ["OU", "emailAddress"],
            "fixed": {"O": "Us"},
        },
        usage={"extended": ["client_auth"]},
    )
    subject = [(NameOID.ORGANIZATIONAL_UNIT_NAME, "Dev"), (NameOID.EMAIL_ADDRESS, "ann@example.test")]
    key = make_key()
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(*each) for each in subject]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("web.example.test")]), critical=False)
        .sign(key, hashes.SHA256())  # type: ignore[arg-type]
        .public_bytes(Encoding.DER)
    )
    certificates = ca.client().certificates
    signed = certificates.sign(profile, csr, common_name="alice")
    new_key = make_key()
    renewed = certificates.renew(signed.serial, make_csr(new_key), old_key=key)
    for each in (signed, renewed):
        certificate = x509.load_der_x509_certificate(each.certificate_der)
        assert [str(a.value) for a in certificate.subject] == ["Us", "Dev", "ann@example.test", "alice"]
        assert not certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical
    other = make_csr(make_key(), common_name="bob")
    told = refused(lambda: certificates.renew(renewed.serial, other, old_key=new_key))
    assert told.reason == "SUBJECT_REFUSED"


def test_nothing_with_a_private_key_is_sent(ca: RunningCa):
    pem = some_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    certificates = ca.client().certificates
    for csr in (pem, b"\xef\xbb\xbf" + pem, pem.decode().encode("utf-16")):
        told = refused(lambda csr=csr: certificates.sign("server", csr))
        assert told.reason == "CSR_MALFORMED"
        assert "must never be sent" in told.message
        assert refused(lambda csr=csr: certificates.sign_many([SignItem("server", csr)])).reason == "CSR_MALFORMED"
    sent = refused(lambda: ca.client().profiles.create(unique("profile"), pem.decode()))
    assert "nothing has been sent" in sent.message
