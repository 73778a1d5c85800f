"""Keys and certificates of a baseline: its CA, its TLS server and a client."""

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_LIFE = datetime.timedelta(days=800)


def make_authority(directory: Path, now: datetime.datetime) -> None:
    """Write `root`, `ca` (below the root), `server` (for localhost) and `client`, each as .pem and .key (SEC 1)."""
    root_key = _key(directory, "root")
    root = _certify(directory, "root", root_key, now, issuer=None, issuer_key=root_key)
    ca_key = _key(directory, "ca")
    _certify(directory, "ca", ca_key, now, issuer=root, issuer_key=root_key, ca=True)
    for name in ("server", "client"):
        _certify(directory, name, _key(directory, name), now, issuer=root, issuer_key=root_key)


def _key(directory: Path, name: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    path = directory / f"{name}.key"
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return key


def _certify(
    directory: Path,
    name: str,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    *,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    ca: bool = False,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"bench {name}")])
    ca = ca or issuer is None
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if name in {"server", "client"}:
        names = x509.SubjectAlternativeName([x509.DNSName("localhost" if name == "server" else "client.localhost")])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate
