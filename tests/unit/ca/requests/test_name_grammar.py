"""The name grammar: written cases, and agreement with the reference implementation on all others."""

import datetime
import ipaddress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import strategies as st

from keyreeve.values import Name, NameType
from keyreeve_ca.requests.name_grammar import problem_with
from support import reference_names
from support.both_seeds import for_all

LONGEST_LABEL = "a" * 63
LONGEST_DNS = ".".join([LONGEST_LABEL] * 3 + ["b" * 61])

ACCEPTED = [
    ("dns", "web.example.test"),
    ("dns", "localhost"),
    ("dns", "a"),
    ("dns", "0.a"),
    ("dns", "3com.example"),
    ("dns", "a-b.c--d.test"),
    ("dns", "*.example.test"),
    ("dns", "1.2.3.4.example"),
    ("dns", LONGEST_DNS),
    ("dns", "*." + LONGEST_DNS[2:]),
    ("ip", "10.0.0.1"),
    ("ip", "127.0.0.1"),
    ("ip", "223.255.255.255"),
    ("ip", "::1"),
    ("ip", "2001:db8::1"),
    ("ip", "fd00::1"),
    ("uri", "https://example.test"),
    ("uri", "spiffe://example.test/a/B_c.d-e/..."),
    ("uri", "a+b.c-d://host/x"),
    ("uri", "https://h/" + "a" * 253),
    ("email", "first.last+tag@example.test"),
    ("email", "o'brien@localhost"),
    ("email", "a" * 64 + "@example.test"),
]
REFUSED = [
    ("dns", ""),
    ("dns", "."),
    ("dns", "web.example.test."),
    ("dns", ".web"),
    ("dns", "a..b"),
    ("dns", "Web.example.test"),
    ("dns", "web_1.example.test"),
    ("dns", "-a.test"),
    ("dns", "a-.test"),
    ("dns", "xn--bcher-kva.test"),
    ("dns", "ab--c.test"),
    ("dns", "10.0.0.1"),
    ("dns", "a.1"),
    ("dns", "a.1-2"),
    ("dns", "0x7f"),
    ("dns", "a.0x"),
    ("dns", "::1"),
    ("dns", "*"),
    ("dns", "*.test"),
    ("dns", "*.*.test"),
    ("dns", "a.*.test"),
    ("dns", "*a.example.test"),
    ("dns", "**.example.test"),
    ("dns", "web.example.test\x00"),
    ("dns", "web.example.test\n"),
    ("dns", "web\u0430.test"),
    ("dns", "\u0661.test"),
    ("dns", "a" * 64 + ".test"),
    ("dns", "a" + LONGEST_DNS),
    ("ip", "010.0.0.1"),
    ("ip", "10.0.0"),
    ("ip", "10.0.0.1/32"),
    ("ip", "0.0.0.0"),
    ("ip", "169.254.169.254"),
    ("ip", "224.0.0.1"),
    ("ip", "255.255.255.255"),
    ("ip", "2001:DB8::1"),
    ("ip", "2001:db8:0:0:0:0:0:1"),
    ("ip", "::"),
    ("ip", "::2"),
    ("ip", "::ffff:10.0.0.1"),
    ("ip", "::ffff:a00:1"),
    ("ip", "64:ff9b::a00:1"),
    ("ip", "2002:a00:1::"),
    ("ip", "fe80::1"),
    ("ip", "fd00::1%eth0"),
    ("ip", "ff02::1"),
    ("ip", "1"),
    ("uri", "https:/example.test"),
    ("uri", "//example.test"),
    ("uri", "HTTPS://example.test"),
    ("uri", "https://Example.test"),
    ("uri", "https://example.test/"),
    ("uri", "https://example.test//a"),
    ("uri", "https://example.test/a/"),
    ("uri", "https://example.test/./a"),
    ("uri", "https://example.test/a/.."),
    ("uri", "https://example.test/%61"),
    ("uri", "https://example.test/a?b"),
    ("uri", "https://example.test/a#b"),
    ("uri", "https://example.test?b"),
    ("uri", "https://example.test:443/a"),
    ("uri", "https://user@example.test/a"),
    ("uri", "https://10.0.0.1/a"),
    ("uri", "https://[::1]/a"),
    ("uri", "https://*.example.test/a"),
    ("uri", "https:///a"),
    ("uri", "https://example.test/a b"),
    ("uri", "https://example.test/a\x00"),
    ("uri", "https://example.test/\u00fc"),
    ("uri", "https://h/" + "a" * 254),
    ("uri", "https://h" + "/aaaaaaaaa" * 204),
    ("uri", "1a://h"),
    ("uri", "a" * 33 + "://h"),
    ("uri", "urn:uuid:00000000-0000-0000-0000-000000000000"),
    ("email", "example.test"),
    ("email", "@example.test"),
    ("email", "a@"),
    ("email", "a@b@example.test"),
    ("email", ".a@example.test"),
    ("email", "a.@example.test"),
    ("email", "a..b@example.test"),
    ("email", '"a b"@example.test'),
    ("email", "a b@example.test"),
    ("email", "a@Example.test"),
    ("email", "a@[10.0.0.1]"),
    ("email", "a@*.example.test"),
    ("email", "\u00fc@example.test"),
    ("email", "a" * 65 + "@example.test"),
    ("email", "a@example.test\n"),
    ("email", "A <a@example.test>"),
]


@pytest.mark.parametrize(("kind", "text"), ACCEPTED)
def test_a_name_of_the_grammar_is_accepted(kind, text):
    assert problem_with(Name(NameType(kind), text)) is None
    assert reference_names.accepts(kind, text)


@pytest.mark.parametrize(("kind", "text"), REFUSED)
def test_a_name_outside_the_grammar_is_refused_with_a_printable_reason(kind, text):
    problem = problem_with(Name(NameType(kind), text))
    assert problem
    assert problem.isprintable()
    assert problem.isascii()
    assert not reference_names.accepts(kind, text)


HOSTILE = st.sampled_from(
    [*".-*/:@%?#_+[]{} \x00\n\t\x7f\u0430\u00fc\u2024\uff0e\u0130AZaz09x", "--", "..", "//", "0x", "%00"]
)


@st.composite
def labels(draw):
    alphabet = "abcxyz0189-"
    edge = st.sampled_from("abcxyz0189")
    size = draw(st.sampled_from([1, 1, 2, 3, 4, 5, 8, 62, 63, 64]))
    middle = "".join(draw(st.sampled_from(alphabet)) for _ in range(min(size, 8) - 2))
    text = draw(edge) + middle + draw(edge) if size > 1 else draw(edge)
    return text + "m" * (size - len(text))


@st.composite
def hosts(draw):
    parts = draw(st.lists(labels(), min_size=1, max_size=5))
    last = draw(st.sampled_from(["test", "a", "t3st", "x-y", "0a", "0x1g", "0", "0xf", "12-3", "a1b2c3"]))
    text = ".".join([*parts, last])
    if draw(st.integers(0, 9)) == 0:  # to the edge of the whole length
        wanted = draw(st.sampled_from([252, 253, 254]))
        text = ".".join(["e" * 50] * 5)[: wanted - 3].strip(".")
        text += "e" * (wanted - 2 - len(text)) + ".t"
    return text


@st.composite
def dns_names(draw):
    return draw(st.sampled_from(["", "", "*.", "*"])) + draw(hosts())


@st.composite
def uris(draw):
    scheme = draw(st.sampled_from(["https", "spiffe", "a", "x+y-z.0", "a" * 32, "a" * 33, "+a", "0a"]))
    segment = st.text("abZ09._-", min_size=1, max_size=6) | st.sampled_from([".", "..", "...", "a" * 253, "a" * 254])
    segments = draw(st.lists(segment, max_size=9))
    return scheme + "://" + draw(hosts()) + "".join("/" + part for part in segments)


@st.composite
def emails(draw):
    atom = st.text("abZ09!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8) | st.sampled_from(["a" * 63, "a" * 64, "a" * 65])
    return ".".join(draw(st.lists(atom, min_size=1, max_size=3))) + "@" + draw(hosts())


@st.composite
def addresses(draw):
    size = draw(st.sampled_from([4, 16]))
    ranges = reference_names._REFUSED_4 if size == 4 else reference_names._REFUSED_6
    edges = st.sampled_from([number + shift for pair in ranges for number in pair for shift in (-1, 0, 1)])
    usual = st.integers(0x01000000, 0xDFFFFFFF) if size == 4 else st.integers(0x20010DB8 << 96, (0x20010DB9 << 96) - 1)
    number = draw(edges | usual | st.integers(0, 2 ** (8 * size) - 1)) % 2 ** (8 * size)
    address = ipaddress.ip_address(number.to_bytes(size, "big"))
    return draw(st.sampled_from([str(address), str(address), address.exploded, str(address).upper()]))


BY_TYPE = {"dns": dns_names(), "uri": uris(), "email": emails(), "ip": addresses()}


@st.composite
def names(draw):
    kind = draw(st.sampled_from(sorted(BY_TYPE)))
    text = draw(BY_TYPE[kind])
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))):
        at = draw(st.integers(0, len(text)))
        how = draw(st.sampled_from(["insert", "replace", "delete", "double", "swap"]))
        if how == "insert":
            text = text[:at] + draw(HOSTILE) + text[at:]
        elif how == "replace":
            text = text[:at] + draw(HOSTILE) + text[at + 1 :]
        elif how == "delete":
            text = text[:at] + text[at + 1 :]
        elif how == "double":
            text = text[:at] + text[max(at - 3, 0) :]
        else:
            kind = draw(st.sampled_from(sorted(BY_TYPE)))
    return Name(NameType(kind), text)


@for_all(examples=600, name=names())
def test_the_rules_accept_exactly_what_the_reference_accepts(name):
    assert (problem_with(name) is None) == reference_names.accepts(name.type, name.value)


@for_all(examples=1000, kind=st.sampled_from(sorted(BY_TYPE)), text=st.text(max_size=20))
def test_the_rules_agree_with_the_reference_on_any_text(kind, text):
    assert (problem_with(Name(NameType(kind), text)) is None) == reference_names.accepts(kind, text)


KEY = ec.derive_private_key(5, ec.SECP256R1())


def through_a_certificate(name: Name) -> Name:
    kinds = {
        NameType.DNS: x509.DNSName,
        NameType.URI: x509.UniformResourceIdentifier,
        NameType.EMAIL: x509.RFC822Name,
        NameType.IP: lambda text: x509.IPAddress(ipaddress.ip_address(text)),
    }
    moment = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), KEY.public_key(), 1, moment, moment)
        .add_extension(x509.SubjectAlternativeName([kinds[name.type](name.value)]), critical=True)
        .sign(KEY, SHA256())
    )
    parsed = x509.load_der_x509_certificate(certificate.public_bytes(Encoding.DER))
    [found] = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert isinstance(found, x509.DNSName | x509.UniformResourceIdentifier | x509.RFC822Name | x509.IPAddress)
    return Name(name.type, str(found.value))


@for_all(examples=150, name=names().filter(lambda name: problem_with(name) is None))
def test_an_accepted_name_passes_through_a_certificate_unchanged(name):
    assert through_a_certificate(name) == name
