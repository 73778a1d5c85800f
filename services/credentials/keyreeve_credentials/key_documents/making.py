"""Keys, requests and certificates: made and signed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
    PrivateKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from keyreeve.errors import KeyFileUnsuitable
from keyreeve_credentials.key_documents.attributes import Attributes, general_names, refused, subject_of, warnings_about
from keyreeve_credentials.key_documents.contents import alternative_names, is_ca, key_type, spki

SELF_SIGNED_DAYS = 1825
SIGNED_DAYS = 365
MOST_DAYS = 7300
_BACKDATED = timedelta(minutes=5)
"""Clocks of servers differ."""
_LEAST_RSA_BITS = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_COPIED = (x509.DNSName, x509.IPAddress, x509.RFC822Name)


class KeyChoice(StrEnum):
    """Type of a key to make."""

    RSA_2048 = "rsa2048"
    RSA_3072 = "rsa3072"
    RSA_4096 = "rsa4096"
    P256 = "p256"
    P384 = "p384"


@dataclass(frozen=True)
class Terms:
    """When and for how long a certificate is made."""

    now: datetime
    days: int
    serial: Callable[[], int]
    """Makes serial numbers."""

    @property
    def not_before(self) -> datetime:
        """The beginning of the lifetime."""
        return (self.now - _BACKDATED).replace(microsecond=0)

    @property
    def not_after(self) -> datetime:
        """The end of the lifetime. Raises `FieldInvalid`."""
        if not 1 <= self.days <= MOST_DAYS:
            raise refused("days", f"1 to {MOST_DAYS} are allowed")
        return (self.now + timedelta(days=self.days)).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Made:
    """A key with what was made from it."""

    key_pem: bytes
    document_pem: bytes
    """The request or the certificate."""
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return "Made(***)"


def make_key(choice: KeyChoice) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Generate a private key."""
    if choice is KeyChoice.P256:
        return ec.generate_private_key(ec.SECP256R1())
    if choice is KeyChoice.P384:
        return ec.generate_private_key(ec.SECP384R1())
    return rsa.generate_private_key(65537, int(choice.value.removeprefix("rsa")))


def create_request(attributes: Attributes, choice: KeyChoice) -> Made:
    """Make a key and a signed request for it. Raises `FieldInvalid`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject_of(attributes))
    if names := general_names(attributes.names):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    key = make_key(choice)
    signed = builder.sign(key, hashes.SHA256())
    return Made(key_pem(key), signed.public_bytes(serialization.Encoding.PEM), tuple(warnings_about(attributes)))


def create_self_signed(attributes: Attributes, choice: KeyChoice, terms: Terms) -> Made:
    """Make a key and a certificate that it signs itself; it may serve, and sign others. Raises `FieldInvalid`."""
    subject, names, not_after = subject_of(attributes), general_names(attributes.names), terms.not_after
    key = make_key(choice)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(terms.serial()).not_valid_before(terms.not_before).not_valid_after(not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(ca=True, encipherment="rsa" in choice.value), critical=True)
    builder = builder.add_extension(identifier, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    return Made(key_pem(key), signed.public_bytes(serialization.Encoding.PEM), tuple(warnings_about(attributes)))


def sign_request(
    request: x509.CertificateSigningRequest, issuer: x509.Certificate, issuer_key: PrivateKeyTypes, terms: Terms
) -> bytes:
    """Sign a request with a CA's key; subject and alternative names come from the request, nothing else.

    Raises `KeyFileUnsuitable` for a request or an issuer that cannot be used.
    """
    names = _requested_names(request)
    public_key = _acceptable_key(request)
    signer = _issuer(issuer, issuer_key, terms.now)
    not_after = min(terms.not_after, issuer.not_valid_after_utc)
    builder = x509.CertificateBuilder().subject_name(request.subject).issuer_name(issuer.subject).public_key(public_key)
    builder = builder.serial_number(terms.serial()).not_valid_before(terms.not_before).not_valid_after(not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    encipherment = isinstance(public_key, rsa.RSAPublicKey)
    builder = builder.add_extension(_usage(ca=False, encipherment=encipherment), critical=True)
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    builder = builder.add_extension(_authority_identifier(issuer), critical=False)
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    signed = builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def key_pem(key: PrivateKeyTypes) -> bytes:
    """Encode a private key as PKCS#8 without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _usage(*, ca: bool, encipherment: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _requested_names(request: x509.CertificateSigningRequest) -> x509.SubjectAlternativeName | None:
    try:
        valid, names = request.is_signature_valid, alternative_names(request)
    except ValueError:
        raise KeyFileUnsuitable("the extensions of the request cannot be read") from None
    if not valid:
        raise KeyFileUnsuitable("the request is not signed by its own key")
    if names is not None and not all(isinstance(name, _COPIED) for name in names):
        raise KeyFileUnsuitable("the request has names that are not DNS names, IP addresses or e-mail addresses")
    if not request.subject.rdns:
        raise KeyFileUnsuitable("the request has no subject")
    return names


def _acceptable_key(request: x509.CertificateSigningRequest) -> CertificateIssuerPublicKeyTypes:
    key = request.public_key()
    match key:
        case rsa.RSAPublicKey() if key.key_size >= _LEAST_RSA_BITS:
            return key
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return key
        case ed25519.Ed25519PublicKey():
            return key
    raise KeyFileUnsuitable(f"the request's key is {key_type(key)}: RSA of 2048 bits or more, a NIST curve or Ed25519")


def _issuer(issuer: x509.Certificate, key: PrivateKeyTypes, now: datetime) -> CertificateIssuerPrivateKeyTypes:
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise KeyFileUnsuitable(f"a key of type {key_type(key)} does not sign certificates")
    if spki(key.public_key()) != spki(issuer.public_key()):
        raise KeyFileUnsuitable("the CA's key and certificate do not match")
    if not is_ca(issuer):
        raise KeyFileUnsuitable("the certificate to sign with is not a CA's: make one with selfsigned")
    if not issuer.not_valid_before_utc <= now <= issuer.not_valid_after_utc:
        raise KeyFileUnsuitable("the CA's certificate is not valid now")
    return key


def _authority_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(_issuer_key(issuer))
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _issuer_key(issuer: x509.Certificate) -> CertificateIssuerPublicKeyTypes:
    key = issuer.public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)
    return key
