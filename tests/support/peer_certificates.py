"""Certificates of every kind that a test needs, good and bad, made with `CertificateBuilder` and P-256 keys.

It applies no rules of the product and signs everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyreeve.identity import SpiffeId, service_dns_name

TRUST_DOMAIN = "example.test"
CLIENT_AND_SERVER = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)


def _key_pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Leaf:
    """A certificate with its key and the issuing CAs that a peer needs beside it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    issuers: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> bytes:
        return _pem(self.certificate)

    @property
    def chain_pem(self) -> bytes:
        return b"".join(_pem(one) for one in (self.certificate, *self.issuers))

    @property
    def key_pem(self) -> bytes:
        return _key_pem(self.key)


@dataclass(frozen=True)
class TestCa:
    """An authority that signs anything."""

    __test__ = False

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    """The issuing CAs from this one up, without the root; empty for a root."""

    @classmethod
    def root(cls, name: str, *, now: datetime | None = None) -> "TestCa":
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _ca_builder(name, name, key, now=now, life=timedelta(days=3650), path_length=None).sign(
            key, hashes.SHA256()
        )
        return cls(certificate, key)

    def issuing(self, name: str, *, now: datetime | None = None, life: timedelta = timedelta(days=365)) -> "TestCa":
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        certificate = _ca_builder(name, str(issuer), key, now=now, life=life, path_length=0).sign(
            self.key, hashes.SHA256()
        )
        return TestCa(certificate, key, (certificate, *self.chain))

    @property
    def pem(self) -> bytes:
        return _pem(self.certificate)

    def leaf(
        self,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        common_name: str = "leaf",
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        usages: Sequence[x509.ObjectIdentifier] = CLIENT_AND_SERVER,
        ca: bool = False,
        key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | None = None,
    ) -> Leaf:
        now = datetime.now(UTC).replace(microsecond=0)
        key = key or ec.generate_private_key(ec.SECP256R1())
        names = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *(x509.DNSName(name) for name in dns)]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or now - timedelta(minutes=5))
            .not_valid_after(not_after or now + timedelta(hours=12))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return Leaf(builder.sign(self.key, hashes.SHA256()), key, self.chain)

    def person(self, path: str, *, trust_domain: str = TRUST_DOMAIN) -> Leaf:
        """A leaf that identifies `spiffe://trust_domain/path`."""
        return self.leaf(uris=[f"spiffe://{trust_domain}/{path}"])

    def service(self, role: str = "ca", *, trust_domain: str = TRUST_DOMAIN) -> Leaf:
        """A service's leaf: the identity, the reserved DNS name."""
        identity = SpiffeId(trust_domain, ("services", role, "one"))
        return self.leaf(uris=[str(identity)], dns=[service_dns_name(role, trust_domain)])


def _ca_builder(
    name: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    now: datetime | None,
    life: timedelta,
    path_length: int | None,
) -> x509.CertificateBuilder:
    begin = (now or datetime.now(UTC)).replace(microsecond=0) - timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1) + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


@dataclass(frozen=True)
class Hierarchies:
    """The authorities of a control plane, and others that its listeners must refuse."""

    control_root: TestCa
    control: TestCa
    estate: TestCa
    array: TestCa
    impostor: TestCa
    """An issuing CA of another root, with exactly the names of the control hierarchy."""
    revoked: TestCa
    """An issuing CA of the control root that has been revoked: no trust view has it any more."""

    @classmethod
    def make(cls) -> "Hierarchies":
        control_root = TestCa.root("control root")
        return cls(
            control_root,
            control_root.issuing("control issuing"),
            TestCa.root("estate root").issuing("estate issuing"),
            TestCa.root("array CA"),
            TestCa.root("control root").issuing("control issuing"),
            control_root.issuing("control issuing, revoked"),
        )
