"""Files as the operators of a meeting server upload them."""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID

PASSPHRASE = b"correct horse"


@cache
def uploaded(kind: str) -> bytes:
    """The contents of a file: `locked-key`, `pkcs12`, `text`."""
    key = ec.generate_private_key(ec.SECP256R1())
    if kind == "locked-key":
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    if kind == "pkcs12":
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bill")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), 1)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        return serialize_key_and_certificates(b"bill", key, certificate, None, BestAvailableEncryption(PASSPHRASE))
    return b"minutes of the meeting\n"
