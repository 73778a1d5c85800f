"""Parsing CSRs: agreement with the library, and no unexpected errors on any bytes."""

import ipaddress
import random

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import strategies as st

from keyreeve.errors import CsrSignatureInvalid, CsrTooLarge, InvalidArgument, KeyreeveError
from keyreeve.values import Name, NameType
from keyreeve_ca.requests.csr import MAX_DER_BYTES, check_possession, read_csr
from keyreeve_ca.requests.name_grammar import problem_with
from keyreeve_chassis.keys.key_types import KeyType
from support.both_seeds import for_all
from support.csr_corpus import bad_csrs
from support.csr_writer import cn, good_csr, info, pem, rsa_key, san, signed, tlv
from support.der_writer import oid, sequence

# The library reads a subject whose text is too long for its kind, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning")

ED25519 = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
P256 = ec.derive_private_key(21, ec.SECP256R1())
P384 = ec.derive_private_key(21, ec.SECP384R1())


def usual_request(key, algorithm: HashAlgorithm | None, pss=None) -> bytes:
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web.example.test")]))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("web.example.test"),
                    x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
                    x509.UniformResourceIdentifier("spiffe://example.test/a"),
                    x509.RFC822Name("root@example.test"),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), critical=True)
        .add_attribute(x509.oid.AttributeOID.UNSTRUCTURED_NAME, b"made by a test")
    )
    return builder.sign(key, algorithm, rsa_padding=pss).public_bytes(Encoding.DER)


def test_everything_in_a_usual_request_is_read():
    data = usual_request(P256, SHA256())
    request = read_csr(data)
    assert request.der == data
    assert request.key_type is KeyType.P256
    assert request.subject == (("2.5.4.3", "web.example.test"),)
    assert request.names == (
        Name(NameType.DNS, "web.example.test"),
        Name(NameType.IP, "2001:db8::1"),
        Name(NameType.URI, "spiffe://example.test/a"),
        Name(NameType.EMAIL, "root@example.test"),
    )
    assert request.requested_extensions.key_usage == {"digital_signature", "key_encipherment"}
    assert request.requested_extensions.extended_key_usage == {"server_auth"}
    assert not request.requested_extensions.authority
    assert request.requested_extensions.others == ()


@pytest.mark.parametrize(
    ("key", "algorithm", "pss"),
    [
        (P256, SHA256(), None),
        (P256, SHA512(), None),
        (P384, SHA384(), None),
        (ED25519, None, None),
        (None, SHA256(), None),
        (None, SHA384(), None),
        (None, SHA512(), None),
        (None, SHA256(), padding.PSS(padding.MGF1(SHA256()), 32)),
        (None, SHA384(), padding.PSS(padding.MGF1(SHA384()), 48)),
        (None, SHA512(), padding.PSS(padding.MGF1(SHA512()), 64)),
    ],
)
def test_possession_is_proved_with_each_accepted_algorithm(key, algorithm, pss):
    data = usual_request(key or rsa_key(), algorithm, pss)
    check_possession(read_csr(data))
    signature_changed = data[:-2] + bytes((data[-2] ^ 1, data[-1]))
    with pytest.raises(CsrSignatureInvalid):
        check_possession(read_csr(signature_changed))
    content_changed = data.replace(b"made by a test", b"made by a jest")
    with pytest.raises(CsrSignatureInvalid):
        check_possession(read_csr(content_changed))


def test_a_pss_signature_with_another_salt_length_is_refused():
    data = usual_request(rsa_key(), SHA256(), padding.PSS(padding.MGF1(SHA256()), 20))
    with pytest.raises(CsrSignatureInvalid, match="salt"):
        check_possession(read_csr(data))


def test_the_attributes_of_windows_have_no_effect():
    version = sequence(oid("1.3.6.1.4.1.311.13.2.3"), tlv(0x31, tlv(0x16, b"10.0.20348.2")))
    requested = sequence(oid("1.2.840.113549.1.9.14"), tlv(0x31, sequence(san(tlv(0x82, b"web.example.test")))))
    request = read_csr(signed(info(attributes=version + requested)))
    assert request.names == (Name(NameType.DNS, "web.example.test"),)
    assert request.requested_extensions.others == ()


def test_the_largest_request_is_read_and_one_byte_more_is_not():
    def of(size: int) -> bytes:
        filler = sequence(oid("1.2.3.4"), tlv(0x31, tlv(0x04, bytes(size))))
        return signed(info(attributes=filler))

    smaller = of(MAX_DER_BYTES - 300)
    largest = of(MAX_DER_BYTES - 300 + MAX_DER_BYTES - len(smaller))
    assert read_csr(largest).der == largest
    assert len(largest) in {MAX_DER_BYTES, MAX_DER_BYTES - 1}  # the signature is one byte longer or shorter
    assert read_csr(pem(largest)).der == largest
    for larger in (of(MAX_DER_BYTES), pem(of(MAX_DER_BYTES))):
        with pytest.raises(CsrTooLarge) as refusal:
            read_csr(larger)
        assert refusal.value.metadata["max_bytes"] == str(MAX_DER_BYTES)


def names_by_the_library(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        extension = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in extension.value]


def assert_the_library_agrees(data: bytes) -> None:
    """Whatever is accepted here means the same to a reader that shares no code with this one."""
    request = read_csr(data)
    try:
        by_the_library = x509.load_der_x509_csr(request.der)
    except ValueError:
        if request.strict_refusal is not None:
            return
        # It reads the signature's algorithm at once, which here is compared, whole, when possession is checked.
        with pytest.raises(CsrSignatureInvalid):
            check_possession(request)
        return
    assert request.public_key == by_the_library.public_key()
    assert request.signed == by_the_library.tbs_certrequest_bytes
    assert request.signature == by_the_library.signature
    refused_by_policy = (
        request.strict_refusal
        or request.requested_extensions.others
        or request.unusable_names
        or len(request.subject) > 1
    )
    if not refused_by_policy and all(problem_with(name) is None for name in request.names):
        assert [text for _, text in request.subject] == [attribute.value for attribute in by_the_library.subject]
        assert [name.value for name in request.names] == names_by_the_library(by_the_library)
    try:
        check_possession(request)
    except CsrSignatureInvalid:
        return
    assert by_the_library.is_signature_valid


def test_the_library_reads_the_same_in_good_requests():
    for data in (good_csr(), *(usual_request(key, SHA256()) for key in (P256, rsa_key()))):
        assert_the_library_agrees(data)


SEEDS = [
    good_csr(),
    usual_request(P256, SHA256()),
    *[case.data for case in bad_csrs("corp.example.test") if len(case.data) < 700],
]


INFOS = [read_csr(usual_request(P256, SHA256())).signed, info(), info(subject=cn(b"web.example.test"))]
OCTETS = [0x00, 0x01, 0x02, 0x03, 0x06, 0x30, 0x31, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xA0, 0xFF]


@st.composite
def damaged(draw, originals):
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["flip", "set", "delete", "insert", "copy", "cut"]))
        if how == "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set":
            data[at] = draw(st.sampled_from(OCTETS))
        elif how == "delete":
            del data[at : at + draw(st.integers(1, 8))]
        elif how == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif how == "copy":
            data[at:at] = data[max(0, at - draw(st.integers(1, 40))) : at]
        else:
            del data[at:]
    return bytes(data)


def accepted_or_refused(data: bytes) -> bool:
    refusal: KeyreeveError | None = None
    try:
        read_csr(data)
    except KeyreeveError as error:
        refusal = error
    assert refusal is None or (isinstance(refusal, InvalidArgument) and refusal.message.isprintable())
    return refusal is None


@for_all(examples=800, data=damaged(SEEDS))
def test_a_damaged_request_is_refused_cleanly_or_means_the_same_to_the_library(data):
    if accepted_or_refused(data):
        assert_the_library_agrees(data)


@for_all(examples=800, content=damaged(INFOS))
def test_a_damaged_content_that_is_signed_is_refused_cleanly_or_means_the_same_to_the_library(content):
    data = signed(content, P256)
    if accepted_or_refused(data):
        assert_the_library_agrees(data)


@for_all(examples=500, data=st.binary(max_size=200))
def test_random_bytes_are_refused_cleanly(data):
    assert not accepted_or_refused(data)


def test_each_octet_of_a_good_request_replaced_by_every_other_is_refused_cleanly_or_means_the_same():
    data = good_csr()
    chance = random.Random(20)
    for at in range(len(data)):
        for value in chance.sample(range(256), 24):
            changed = data[:at] + bytes((value,)) + data[at + 1 :]
            if accepted_or_refused(changed):
                assert_the_library_agrees(changed)
