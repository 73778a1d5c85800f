"""Keys, certificate requests and their files on the holder's side."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from keyreeve import KeyType, Name, SignedCertificate, keys
from keyreeve.errors import CsrMalformed, KeyTypeRefused, NameRefused
from keyreeve.values import NameType, to_pem
from support.peer_certificates import TestCa

QUICK = [KeyType.P256, KeyType.P384, KeyType.ED25519, KeyType.RSA2048]


def size(key: keys.PrivateKey) -> str:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.curve.name
        case rsa.RSAPrivateKey():
            return f"rsa {key.key_size} {key.public_key().public_numbers().e}"
        case ed25519.Ed25519PrivateKey():
            return "ed25519"


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        (KeyType.P256, "secp256r1"),
        (KeyType.P384, "secp384r1"),
        (KeyType.ED25519, "ed25519"),
        (KeyType.RSA2048, "rsa 2048 65537"),
        (KeyType.RSA3072, "rsa 3072 65537"),
    ],
)
def test_a_key_is_of_the_type_asked_for(kind: KeyType, made: str) -> None:
    assert size(keys.make_key(kind)) == made


def test_a_key_is_p256_unless_said_otherwise() -> None:
    assert size(keys.make_key()) == "secp256r1"


@pytest.mark.parametrize("kind", QUICK)
def test_a_request_is_signed_by_its_key_and_holds_its_names(kind: KeyType) -> None:
    names = [Name.dns("web.example.test"), Name.ip("2001:db8::1"), Name.uri("urn:a"), Name.email("a@example.test")]
    csr = x509.load_der_x509_csr(keys.make_csr(keys.make_key(kind), names))
    assert csr.is_signature_valid
    extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert extension.critical, "the subject is empty"
    assert [str(getattr(one, "value", one)) for one in extension.value] == [name.value for name in names]


def test_a_request_may_hold_a_common_name_and_no_names() -> None:
    csr = x509.load_der_x509_csr(keys.make_csr(keys.make_key(), common_name="web"))
    assert csr.subject.rfc4514_string() == "CN=web"
    assert list(csr.extensions) == []


@pytest.mark.parametrize("name", [Name.dns("wéb.test"), Name.ip("1.2.3"), Name.email("ä@b.test"), Name.uri("ü:x")])
def test_a_name_that_no_certificate_can_hold_is_refused_by_position(name: Name) -> None:
    with pytest.raises(NameRefused) as caught:
        keys.make_csr(keys.make_key(), [Name.dns("good.test"), name])
    assert caught.value.violations[0].field == "names[1]"


def test_every_type_of_name_can_be_asked_for() -> None:
    made = {Name.dns("a").type, Name.ip("a").type, Name.uri("a").type, Name.email("a").type}
    assert made == set(NameType)
    assert str(Name.dns("a.test")) == "dns:a.test"


@pytest.mark.parametrize("kind", QUICK)
def test_a_key_file_is_its_owners_alone_and_can_be_read_again(tmp_path: Path, kind: KeyType) -> None:
    key = keys.make_key(kind)
    keys.save_key(tmp_path / "me.key", key)
    assert stat.S_IMODE((tmp_path / "me.key").stat().st_mode) == 0o600
    assert keys.load_key(tmp_path / "me.key").public_key() == key.public_key()


def pem_of(key: ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_an_encrypted_key_is_refused_by_name() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ValueError, match="encrypted"):
        keys.parse_key(pem_of(key, b"secret"))


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyTypeRefused):
        keys.parse_key(pem_of(dsa.generate_private_key(1024)))


def test_a_certificate_file_holds_the_leaf_first_and_then_its_chain(tmp_path: Path) -> None:
    leaf = TestCa.root("root").issuing("issuing").person("members/a")
    der = [one.public_bytes(serialization.Encoding.DER) for one in (leaf.certificate, *leaf.issuers)]
    now = datetime.now(UTC)
    signed = SignedCertificate("certificates/40", "authorities/a", der[0], tuple(der[1:]), now, now, now)
    keys.save_certificate(tmp_path / "me.pem", signed)
    assert keys.load_certificates(tmp_path / "me.pem") == der
    assert stat.S_IMODE((tmp_path / "me.pem").stat().st_mode) == 0o644
    assert signed.pem().encode() == leaf.chain_pem, "the same bytes as the library writes"


def test_pem_of_nothing_is_nothing() -> None:
    assert to_pem([]) == ""


@pytest.mark.parametrize("csr", [b"", b"junk", b"-----BEGIN CERTIFICATE REQUEST-----\n", b"\x30\x80"])
def test_a_request_that_cannot_be_read_is_refused(csr: bytes) -> None:
    with pytest.raises(CsrMalformed):
        keys.csr_spki(csr)


def test_the_key_of_a_request_is_read_from_der_and_from_pem() -> None:
    csr = keys.make_csr(keys.make_key())
    pem = x509.load_der_x509_csr(csr).public_bytes(serialization.Encoding.PEM)
    assert keys.csr_spki(csr) == keys.csr_spki(pem)


def test_a_renewal_is_signed_by_rsa_and_ed25519_keys_too() -> None:
    signed = bytes.fromhex(
        "00000010"
        + b"keyreeve-renew-1".hex()
        + "00000004"
        + b"a.td".hex()
        + "00000010"
        + "40" * 16
        # SHA-256 of the three octets "abc", from FIPS 180-2, appendix B.1
        + "00000020"
        + "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        + "00000001"
        + b"n".hex()
    )
    for kind in (KeyType.RSA2048, KeyType.ED25519):
        key = keys.make_key(kind)
        word = keys.sign_renewal(key, trust_domain="a.td", serial=b"\x40" * 16, new_spki=b"abc", nonce="n")
        public = key.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(word, signed, padding.PKCS1v15(), SHA256())
        else:
            assert isinstance(public, ed25519.Ed25519PublicKey)
            public.verify(word, signed)
