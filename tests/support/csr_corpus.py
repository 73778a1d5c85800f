"""Certificate requests that must be refused, each with the accepted reasons.

`bad_csrs(trust_domain)` is meant for the built-in profile `server`.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.hashes import SHA256

from support.csr_writer import (
    ECDSA_SHA256,
    ED25519,
    GOOD_NAME,
    NULL,
    RSA_SHA256,
    attribute,
    close_primes_modulus,
    cn,
    dns,
    ec_key,
    ec_spki,
    email,
    extension,
    extension_request,
    good_csr,
    info,
    ip,
    modulus_without_small_factors,
    pem,
    roca_modulus,
    rsa_key,
    rsa_spki,
    san,
    signed,
    spki_of,
    unsigned,
    uri,
)
from support.der_writer import bit_string, integer, oid, sequence, tlv
from support.unneeded_requests import UNNEEDED

MALFORMED = "CSR_MALFORMED"
TOO_LARGE = "CSR_TOO_LARGE"
SIGNATURE = "CSR_SIGNATURE_INVALID"
KEY_TYPE = "KEY_TYPE_REFUSED"
KEY_WEAK = "KEY_WEAK"
NAME = "NAME_REFUSED"
TOO_MANY = "TOO_MANY_NAMES"
MISSING = "NAME_MISSING"
SUBJECT = "SUBJECT_REFUSED"
EXTENSION = "EXTENSION_REFUSED"


@dataclass(frozen=True, slots=True)
class BadCsr:
    """A request to be refused, and the accepted reasons."""

    label: str
    data: bytes
    reasons: frozenset[str]


def bad_csrs(trust_domain: str, *, unneeded: bool = False) -> list[BadCsr]:
    """All invalid requests, by unique labels; or those that only strict profiles refuse."""
    cases = [
        *_not_requests(),
        *_broken_der(),
        *_bad_signatures(),
        *_bad_keys(),
        *_bad_names(trust_domain),
        *_bad_subjects(),
        *_bad_extensions(),
    ]
    return [BadCsr(label, data, frozenset(why)) for label, data, *why in cases if (label in UNNEEDED) is unneeded]


Case = tuple[str, bytes, str] | tuple[str, bytes, str, str]


def _not_requests() -> list[Case]:
    good = good_csr()
    text = pem(good)
    jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + b"\x1b" * 700 + b"\xff\xd9"
    return [
        ("an empty file", b"", MALFORMED),
        ("a JPEG", jpeg, MALFORMED),
        ("a line of text", b"please sign this\n", MALFORMED),
        ("HTML", b"<html><body>404</body></html>", MALFORMED),
        ("zeros", bytes(400), MALFORMED),
        ("0xff", b"\xff" * 400, MALFORMED),
        ("200 kB of nothing", bytes(200_000), TOO_LARGE),
        ("DER of 20 kB", sequence(bytes(20_000)), TOO_LARGE),
        ("PEM of 25 kB", pem(bytes(20_000)), TOO_LARGE),
        ("PEM of 17 kB of DER", pem(sequence(bytes(17_000))), TOO_LARGE),
        ("PEM with two requests", text + text, MALFORMED),
        ("PEM with a request and a key", text + pem(b"\x30\x00", "PRIVATE KEY"), MALFORMED),
        ("PEM of a certificate", pem(good, "CERTIFICATE"), MALFORMED),
        ("PEM of a private key", pem(good, "PRIVATE KEY"), MALFORMED),
        ("PEM without its end", text.partition(b"-----END")[0], MALFORMED),
        ("PEM whose labels differ", text.replace(b"BEGIN CERTIFICATE", b"BEGIN NEW CERTIFICATE"), MALFORMED),
        ("PEM that is not base64", text.replace(b"M", b"?"), MALFORMED),
        ("PEM with a NUL inside", text.replace(b"\n", b"\n\x00", 1), MALFORMED),
        ("PEM of nothing", pem(b""), MALFORMED),
        ("PEM with headers", text.replace(b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\n\n", 1), MALFORMED),
        ("PEM inside PEM", pem(text), MALFORMED),
    ]


def _broken_der() -> list[Case]:
    good = good_csr()
    content = info()
    spki = spki_of(ec_key())
    deep = NULL
    for _ in range(40):
        deep = sequence(deep)
    wide = sequence(NULL * 3000)
    after_good = content[4:] if content[1] == 0x82 else content[3:]
    cases: list[Case] = [(f"cut off after {at} bytes", good[:at], MALFORMED) for at in range(1, len(good), 29)]
    cases += [
        ("a trailing byte", good + b"\x00", MALFORMED),
        ("two requests in DER", good + good, MALFORMED),
        ("an indefinite length outside", b"\x30\x80" + good[4:] + b"\x00\x00", MALFORMED),
        ("an indefinite length inside", signed(b"\x30\x80" + after_good + b"\x00\x00"), MALFORMED),
        ("a length in a longer form than needed", b"\x30\x83\x00" + good[2:], MALFORMED),
        ("a short length in the long form", signed(info(subject=b"\x31\x81\x08" + cn(b"x")[2:])), MALFORMED),
        ("a length of eight octets", b"\x30\x88" + bytes(7) + b"\x05" + good[4:], MALFORMED),
        ("a length of 127 octets", b"\x30\xff" + good[2:], MALFORMED),
        ("nothing but openings", b"\x30\x80" * 4000, MALFORMED),
        ("an empty SEQUENCE", sequence(), MALFORMED),
        ("a SET in place of the SEQUENCE", b"\x31" + good[1:], MALFORMED),
        ("something after the signature", sequence(content, ECDSA_SHA256, bit_string(b"\x30\x00"), NULL), MALFORMED),
        ("no signature", sequence(content, ECDSA_SHA256), MALFORMED),
        ("no algorithm", sequence(content, bit_string(b"\x30\x00")), MALFORMED),
        ("version 1", signed(info(version=b"\x02\x01\x01")), MALFORMED),
        ("version 0 in two octets", signed(info(version=b"\x02\x02\x00\x00")), MALFORMED),
        ("no version", signed(info(version=b"")), MALFORMED),
        ("no attributes", signed(sequence(b"\x02\x01\x00", sequence(), spki)), MALFORMED),
        (
            "something after the attributes",
            signed(sequence(b"\x02\x01\x00", sequence(), spki, tlv(0xA0), NULL)),
            MALFORMED,
        ),
        ("an attribute nested 40 deep", signed(_with_attribute("1.2.3.4", deep)), MALFORMED),
        ("an attribute of 3,000 elements", signed(_with_attribute("1.2.3.4", wide)), MALFORMED),
        ("a string in pieces (BER)", signed(_with_attribute("1.2.3.4", tlv(0x24, tlv(0x04, b"a")))), MALFORMED),
        ("an attribute with two values", signed(_with_attribute("1.2.3.4", NULL, NULL)), MALFORMED),
        ("an attribute without a value", signed(_with_attribute("1.2.3.4")), MALFORMED),
        ("an attribute that stands twice", signed(info(attributes=_attribute("1.2.3.4", NULL) * 2)), MALFORMED),
        (
            "extensionRequest that stands twice",
            signed(info(attributes=extension_request(san(dns(GOOD_NAME))) * 2)),
            MALFORMED,
        ),
        (
            "a hundred attributes",
            signed(info(attributes=b"".join(_attribute(f"1.2.3.{n}", NULL) for n in range(100)))),
            MALFORMED,
        ),
        ("an attribute whose OID is padded", signed(info(attributes=_padded_attribute())), MALFORMED),
    ]
    return cases


def _attribute(kind: str, *values: bytes) -> bytes:
    return sequence(oid(kind), tlv(0x31, *values))


def _with_attribute(kind: str, *values: bytes) -> bytes:
    return info(attributes=extension_request(san(dns(GOOD_NAME))) + _attribute(kind, *values))


def _padded_attribute() -> bytes:
    return sequence(tlv(0x06, b"\x2a\x80\x03"), tlv(0x31, NULL))


def _bad_signatures() -> list[Case]:
    content = info()
    good = signed(content)
    signature = ec_key().sign(content, ec.ECDSA(SHA256(), deterministic_signing=True))
    rsa_content = info(spki=spki_of(rsa_key()))
    rsa_signature = rsa_key().sign(rsa_content, padding.PKCS1v15(), SHA256())
    sha1_rsa = sequence(oid("1.2.840.113549.1.1.5"), NULL)
    md5_rsa = sequence(oid("1.2.840.113549.1.1.4"), NULL)
    sha1_ecdsa = sequence(oid("1.2.840.10045.4.1"))
    return [
        ("a signature with one bit changed", good[:-1] + bytes((good[-1] ^ 1,)), SIGNATURE),
        ("a signature of another key", signed(content, ec_key(8)), SIGNATURE),
        (
            "a signature of another content",
            sequence(info(subject=cn(GOOD_NAME)), ECDSA_SHA256, bit_string(signature)),
            SIGNATURE,
        ),
        ("an empty signature", sequence(content, ECDSA_SHA256, bit_string(b"")), MALFORMED),
        ("a signature of one zero", sequence(content, ECDSA_SHA256, bit_string(b"\x00")), SIGNATURE),
        (
            "an ECDSA signature of (0, 0)",
            sequence(content, ECDSA_SHA256, bit_string(sequence(integer(0), integer(0)))),
            SIGNATURE,
        ),
        ("a signature with unused bits", sequence(content, ECDSA_SHA256, bit_string(signature, 1)), MALFORMED),
        (
            "an ECDSA signature with trailing bytes",
            sequence(content, ECDSA_SHA256, bit_string(signature + b"\x00")),
            SIGNATURE,
        ),
        ("ECDSA with SHA-1", sequence(content, sha1_ecdsa, bit_string(signature)), SIGNATURE),
        ("RSA with SHA-1", sequence(rsa_content, sha1_rsa, bit_string(rsa_signature)), SIGNATURE),
        ("RSA with MD5", sequence(rsa_content, md5_rsa, bit_string(rsa_signature)), SIGNATURE),
        ("an RSA algorithm with an EC key", sequence(content, RSA_SHA256, bit_string(signature)), SIGNATURE),
        ("an EC algorithm with an RSA key", sequence(rsa_content, ECDSA_SHA256, bit_string(rsa_signature)), SIGNATURE),
        ("an Ed25519 algorithm with an EC key", sequence(content, ED25519, bit_string(signature)), SIGNATURE),
        (
            "an RSA signature that is too short",
            sequence(rsa_content, RSA_SHA256, bit_string(rsa_signature[1:])),
            SIGNATURE,
        ),
        (
            "an algorithm with odd parameters",
            sequence(content, sequence(oid("1.2.840.10045.4.3.2"), NULL), bit_string(signature)),
            SIGNATURE,
        ),
        (
            "an algorithm that is not DER",
            sequence(content, sequence(b"\x06\x7f\x01"), bit_string(signature)),
            MALFORMED,
        ),
    ]


def _bad_keys() -> list[Case]:
    modulus = modulus_without_small_factors(2048)
    point = spki_of(ec_key())[-65:]
    p256 = "1.2.840.10045.3.1.7"
    small_order = bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f")
    explicit = sequence(sequence(oid("1.2.840.10045.2.1"), sequence(integer(1), sequence())), bit_string(point))
    negative = sequence(tlv(0x02, b"\x80" + bytes(255)), integer(65537))
    keys: list[tuple[str, bytes, str]] = [
        ("RSA-512", rsa_spki(modulus_without_small_factors(512)), KEY_TYPE),
        ("RSA-1024", rsa_spki(modulus_without_small_factors(1024)), KEY_TYPE),
        ("RSA-2047", rsa_spki(modulus >> 1 | 1), KEY_TYPE),
        ("RSA-2056", rsa_spki(modulus << 8 | 1), KEY_TYPE),
        ("RSA-16384", rsa_spki((1 << 16383) + 1), KEY_TYPE),
        ("RSA-60000", rsa_spki((1 << 59999) + 1), KEY_TYPE),
        ("RSA with exponent 1", rsa_spki(modulus, 1), KEY_WEAK),
        ("RSA with exponent 3", rsa_spki(modulus, 3), KEY_WEAK),
        ("RSA with an even exponent", rsa_spki(modulus, 65536), KEY_WEAK),
        ("RSA with an exponent of 64 bits", rsa_spki(modulus, (1 << 64) + 1), KEY_WEAK),
        ("RSA with an exponent of 2,048 bits", rsa_spki(modulus, modulus - 2), KEY_WEAK),
        ("RSA with an even modulus", rsa_spki(modulus - 1), KEY_WEAK),
        ("RSA with the factor 3", rsa_spki((1 << 2047) // 3 * 3 + 3), KEY_WEAK),
        ("RSA with the factor 997", rsa_spki(((1 << 2047) // 997 | 1) * 997 + 2 * 997), KEY_WEAK),
        ("RSA with close primes", rsa_spki(close_primes_modulus()), KEY_WEAK),
        ("RSA of the ROCA generator", rsa_spki(roca_modulus()), KEY_WEAK),
        (
            "RSA with a negative modulus",
            sequence(sequence(oid("1.2.840.113549.1.1.1"), NULL), bit_string(negative)),
            MALFORMED,
        ),
        (
            "RSA without parameters",
            sequence(sequence(oid("1.2.840.113549.1.1.1")), bit_string(rsa_spki(modulus)[24:])),
            MALFORMED,
        ),
        (
            "an RSASSA-PSS key",
            sequence(sequence(oid("1.2.840.113549.1.1.10")), bit_string(rsa_spki(modulus)[24:])),
            KEY_TYPE,
        ),
        ("DSA", sequence(sequence(oid("1.2.840.10040.4.1"), sequence()), bit_string(integer(5))), KEY_TYPE),
        ("X25519", sequence(sequence(oid("1.3.101.110")), bit_string(bytes(32))), KEY_TYPE),
        ("Ed448", sequence(sequence(oid("1.3.101.113")), bit_string(bytes(57))), KEY_TYPE),
        ("ML-DSA-44", sequence(sequence(oid("2.16.840.1.101.3.4.3.17")), bit_string(bytes(1312))), KEY_TYPE),
        ("an unknown algorithm", sequence(sequence(oid("1.2.3.4.5")), bit_string(bytes(32))), KEY_TYPE),
        ("Ed25519 of 31 octets", sequence(ED25519, bit_string(bytes(31))), MALFORMED),
        ("Ed25519 of small order", sequence(ED25519, bit_string(small_order)), KEY_WEAK),
        ("Ed25519 beyond its prime", sequence(ED25519, bit_string(b"\xff" * 32)), KEY_WEAK),
        ("P-192", ec_spki("1.2.840.10045.3.1.1", b"\x04" + bytes(48)), KEY_TYPE),
        ("P-224", ec_spki("1.3.132.0.33", b"\x04" + bytes(56)), KEY_TYPE),
        ("P-521", ec_spki("1.3.132.0.35", b"\x04" + bytes(132)), KEY_TYPE),
        ("secp256k1", ec_spki("1.3.132.0.10", point), KEY_TYPE),
        ("an explicit curve", explicit, KEY_TYPE),
        ("a point off its curve", ec_spki(p256, point[:-1] + bytes((point[-1] ^ 1,))), KEY_WEAK),
        ("the point (0, 0)", ec_spki(p256, b"\x04" + bytes(64)), KEY_WEAK),
        ("coordinates beyond the field", ec_spki(p256, b"\x04" + b"\xff" * 64), KEY_WEAK),
        ("the point at infinity", ec_spki(p256, b"\x00"), KEY_WEAK),
        ("a compressed point", ec_spki(p256, b"\x02" + point[1:33]), KEY_TYPE),
        ("a hybrid point", ec_spki(p256, b"\x06" + point[1:]), MALFORMED),
        ("half a point", ec_spki(p256, point[:33]), MALFORMED),
        ("no key at all", sequence(sequence(oid("1.2.840.10045.2.1"), oid(p256)), bit_string(b"")), MALFORMED),
        ("an empty SubjectPublicKeyInfo", sequence(), MALFORMED),
    ]
    return [(label, unsigned(info(spki=spki)), reason) for label, spki, reason in keys]


def _bad_names(trust_domain: str) -> list[Case]:
    td = trust_domain.encode()
    hundred = [dns(b"host-%d.example.test" % n) for n in range(100)]
    names: list[tuple[str, bytes, str]] = [
        ("a NUL in a name", dns(b"web.example.test\x00.evil.test"), NAME),
        ("a newline in a name", dns(b"web.example.test\n"), NAME),
        ("a space for a name", dns(b" "), NAME),
        ("an empty name", dns(b""), NAME),
        ("a lone wildcard", dns(b"*"), NAME),
        ("a wildcard inside", dns(b"a.*.example.test"), NAME),
        ("half a wildcard", dns(b"w*.example.test"), NAME),
        ("a wildcard over one label", dns(b"*.test"), NAME),
        ("a label of 300 bytes", dns(b"a" * 300 + b".test"), NAME),
        ("a name of 254 bytes", dns(b"a." * 125 + b"test"), NAME),
        ("an IP address as DNS name", dns(b"10.0.0.1"), NAME),
        ("a hexadecimal IP address", dns(b"0x7f000001"), NAME),
        ("a trailing dot", dns(b"web.example.test."), NAME),
        ("a leading dot", dns(b".example.test"), NAME),
        ("two dots", dns(b"web..test"), NAME),
        ("upper case", dns(b"Web.example.test"), NAME),
        ("an underscore", dns(b"_web.example.test"), NAME),
        ("punycode", dns(b"xn--bcher-kva.example.test"), NAME),
        ("a homoglyph in UTF-8", dns("\u0440aypal.test".encode()), NAME),
        ("Latin-1", dns(b"b\xfccher.test"), NAME),
        ("a slash", dns(b"web.example.test/admin"), NAME),
        ("a SPIFFE ID as DNS name", dns(b"spiffe://" + td + b"/operators/admin/eve"), NAME),
        ("a SPIFFE ID", uri(b"spiffe://" + td + b"/operators/admin/eve"), NAME),
        ("a URI with a user", uri(b"spiffe://user@" + td + b"/a"), NAME),
        ("a URI with an escape", uri(b"https://example.test/%61dmin"), NAME),
        ("a URI with a dot segment", uri(b"https://example.test/a/../admin"), NAME),
        ("a URI with a NUL", uri(b"https://example.test/a\x00"), NAME),
        ("a URI of 3,000 bytes", uri(b"https://example.test/" + b"a" * 3000), NAME),
        ("an e-mail address for a server", email(b"root@example.test"), NAME),
        ("an e-mail address with a NUL", email(b"root\x00@example.test"), NAME),
        ("a service's name", dns(b"ca.svc." + td), NAME),
        ("the services' suffix", dns(b"svc." + td), NAME),
        ("a wildcard over services", dns(b"*.svc." + td), NAME),
        ("a wildcard over the trust domain", dns(b"*." + td), NAME),
        ("a probe's name", dns(b"a.probe." + td), NAME),
        ("an otherName", tlv(0xA0, oid("1.3.6.1.4.1.311.20.2.3"), tlv(0xA0, tlv(0x0C, b"eve@example.test"))), NAME),
        ("a directory name", tlv(0xA4, sequence(cn(b"admin"))), NAME),
        ("a registered ID", tlv(0x88, b"\x2a\x03\x04"), NAME),
        ("an IP address of 5 octets", ip(bytes(5)), NAME),
        ("an IP address with a mask", ip(bytes(8)), NAME),
        ("no octets for an IP address", ip(b""), NAME),
        ("the unspecified address", ip(bytes(4)), NAME),
        ("the unspecified IPv6 address", ip(bytes(16)), NAME),
        ("the broadcast address", ip(b"\xff" * 4), NAME),
        ("a multicast address", ip(b"\xe0\x00\x00\x01"), NAME),
        ("an IPv4-mapped address", ip(bytes(10) + b"\xff\xff\x0a\x00\x00\x01"), NAME),
        ("a GeneralName of an unknown tag", tlv(0x89, b"x"), MALFORMED),
        ("a DNS name in a constructed string", tlv(0xA2, tlv(0x16, b"web.example.test")), MALFORMED),
    ]
    cases: list[Case] = [
        (label, signed(info(extensions=(san(dns(GOOD_NAME), name),))), reason) for label, name, reason in names
    ]
    for position in range(100):
        among = [*hundred[:position], dns(b"ca.svc." + td), *hundred[position + 1 :]]
        cases.append((f"a forbidden name in position {position} of 100", signed(info(extensions=(san(*among),))), NAME))
    empty = extension("2.5.29.17", sequence())
    cases += [
        ("10,000 names", signed(info(extensions=(san(*[dns(b"n%d.test" % n) for n in range(10_000)]),))), TOO_LARGE),
        ("1,000 names", signed(info(extensions=(san(*[dns(b"n%d.test" % n) for n in range(1000)]),))), TOO_MANY),
        ("5,000 empty names", signed(info(extensions=(san(*[dns(b"")] * 5000),))), TOO_MANY),
        ("101 names", signed(info(extensions=(san(*hundred, dns(GOOD_NAME)),))), TOO_MANY),
        ("no name but the CN", signed(info(subject=cn(GOOD_NAME), attributes=b"")), MISSING, SUBJECT),
        ("no name at all", signed(info(attributes=b"")), MISSING),
        ("an empty list of names", signed(info(extensions=(empty,))), MALFORMED),
    ]
    return cases


def _bad_subjects() -> list[Case]:
    organization = attribute("2.5.4.10", b"Example")
    pair = sequence(oid("2.5.4.3"), tlv(0x0C, GOOD_NAME))
    subjects: list[tuple[str, bytes, str]] = [
        ("an organization", cn(GOOD_NAME) + organization, SUBJECT),
        ("an organization alone", organization, SUBJECT),
        ("an unknown attribute", attribute("1.2.3.4", b"x"), SUBJECT),
        ("two CNs", cn(GOOD_NAME) * 2, SUBJECT),
        ("two CNs in one part", tlv(0x31, pair, pair), SUBJECT),
        ("a CN that is not among the names", cn(b"other.example.test"), SUBJECT),
        ("an empty CN", cn(b""), SUBJECT),
        ("a NUL in the CN", cn(GOOD_NAME + b"\x00"), SUBJECT),
        ("a newline in the CN", cn(GOOD_NAME + b"\n"), SUBJECT),
        ("a right-to-left mark in the CN", cn("\u202etset.elpmaxe".encode()), SUBJECT),
        ("a CN in upper case", cn(b"WEB.example.test"), SUBJECT),
        ("a CN of 300 bytes", cn(b"a" * 300), SUBJECT),
        ("a CN in a BMPString", cn("web".encode("utf-16-be"), 0x1E), SUBJECT),
        ("a CN in a TeletexString", cn(GOOD_NAME, 0x14), SUBJECT),
        ("a CN that is not UTF-8", cn(b"\xff\xfe"), MALFORMED),
        ("a CN beyond ASCII in an IA5String", cn(b"\xfc", 0x16), MALFORMED),
        ("a CN that is a number", tlv(0x31, sequence(oid("2.5.4.3"), integer(5))), SUBJECT),
        ("an empty part of the subject", tlv(0x31), MALFORMED),
        ("an attribute with a third member", tlv(0x31, sequence(oid("2.5.4.3"), tlv(0x0C, b"a"), NULL)), MALFORMED),
        ("a hundred attributes in the subject", organization * 100, MALFORMED),
    ]
    return [(label, signed(info(subject=subject)), reason) for label, subject, reason in subjects]


def _bad_extensions() -> list[Case]:
    names = san(dns(GOOD_NAME))
    true = b"\x01\x01\xff"
    many = [extension(f"1.2.3.{n}", NULL) for n in range(1000)]
    extensions: list[tuple[str, tuple[bytes, ...], str]] = [
        ("a request to be a CA", (names, extension("2.5.29.19", sequence(true), true)), EXTENSION),
        (
            "a request to be a CA with a path length",
            (names, extension("2.5.29.19", sequence(true, integer(0)))),
            EXTENSION,
        ),
        (
            "basic constraints with a written FALSE",
            (names, extension("2.5.29.19", sequence(b"\x01\x01\x00"))),
            MALFORMED,
        ),
        ("a request to sign certificates", (names, extension("2.5.29.15", bit_string(b"\x04", 2))), EXTENSION),
        ("a request for every key usage", (names, extension("2.5.29.15", bit_string(b"\xff\x80", 7))), EXTENSION),
        ("an empty key usage", (names, extension("2.5.29.15", bit_string(b""))), MALFORMED),
        ("a key usage with trailing zeros", (names, extension("2.5.29.15", bit_string(b"\x80", 0))), MALFORMED),
        ("a key usage that is a number", (names, extension("2.5.29.15", integer(5))), MALFORMED),
        ("a request to be a client", (names, extension("2.5.29.37", sequence(oid("1.3.6.1.5.5.7.3.2")))), EXTENSION),
        ("a request for any purpose", (names, extension("2.5.29.37", sequence(oid("2.5.29.37.0")))), EXTENSION),
        ("a request for an unknown purpose", (names, extension("2.5.29.37", sequence(oid("1.2.3.4")))), EXTENSION),
        ("an empty extended key usage", (names, extension("2.5.29.37", sequence())), MALFORMED),
        ("a request for a subject key identifier", (names, extension("2.5.29.14", tlv(0x04, b"a"))), EXTENSION),
        ("a request for name constraints", (names, extension("2.5.29.30", sequence())), EXTENSION),
        ("an unknown extension", (names, extension("1.2.3.4", NULL)), EXTENSION),
        ("an unknown critical extension", (names, extension("1.2.3.4", NULL, true)), EXTENSION),
        ("names that are asked for twice", (names, names), MALFORMED),
        ("an unknown extension twice", (names, *[extension("1.2.3.4", NULL)] * 2), MALFORMED),
        (
            "1,000 extensions",
            tuple(many),
            MALFORMED,
        ),
        (
            "an extension with a written FALSE",
            (extension("2.5.29.17", sequence(dns(GOOD_NAME)), b"\x01\x01\x00"),),
            MALFORMED,
        ),
        (
            "an extension whose TRUE is 1",
            (extension("2.5.29.17", sequence(dns(GOOD_NAME)), b"\x01\x01\x01"),),
            MALFORMED,
        ),
        ("names with trailing bytes", (extension("2.5.29.17", sequence(dns(GOOD_NAME)) + b"\x00"),), MALFORMED),
        ("names that are not a SEQUENCE", (extension("2.5.29.17", dns(GOOD_NAME)),), MALFORMED),
        ("an extension without a value", (sequence(oid("2.5.29.17")),), MALFORMED),
    ]
    cases: list[Case] = [(label, signed(info(extensions=requested)), reason) for label, requested, reason in extensions]
    nothing = sequence(oid("1.2.840.113549.1.9.14"), tlv(0x31, sequence()))
    microsoft = sequence(oid("1.3.6.1.4.1.311.2.1.14"), tlv(0x31, sequence(names)))
    cases += [
        ("an empty list of extensions", signed(info(attributes=nothing)), MALFORMED),
        ("extensions in Microsoft's attribute", signed(info(attributes=microsoft)), EXTENSION),
    ]
    return cases
