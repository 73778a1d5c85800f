"""A CA, an intermediate and an entity, as files."""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import pytest
from cryptography import x509

from keyreeve_credentials.key_documents.attributes import Attributes
from keyreeve_credentials.key_documents.contents import load_certificates, load_private_key, load_request
from keyreeve_credentials.key_documents.making import KeyChoice, Terms, create_request, create_self_signed, sign_request

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
serials = count(1000)


def terms(days: int = 30, now: datetime = NOW) -> Terms:
    return Terms(now, days, lambda: next(serials))


@dataclass(frozen=True)
class Files:
    ca_key: bytes
    ca: bytes
    key: bytes
    request: bytes
    certificate: bytes


@pytest.fixture(scope="session")
def files() -> Files:
    ca = create_self_signed(Attributes("Database CA", names=("db.example.test",)), KeyChoice.RSA_2048, terms(1000))
    made = create_request(
        Attributes("core1.example.test", names=("core1.example.test", "10.0.0.1", "ops@example.test")), KeyChoice.P256
    )
    signed = sign_request(
        load_request(made.document_pem), load_certificates(ca.document_pem)[0], load_private_key(ca.key_pem), terms()
    )
    return Files(ca.key_pem, ca.document_pem, made.key_pem, made.document_pem, signed)


@pytest.fixture(scope="session")
def chain() -> tuple[bytes, bytes, bytes, bytes]:
    """Key, entity, intermediate and root."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, n)]) for n in ("Root", "Middle", "Entity")]
    made = []
    for i in range(3):
        above = max(i - 1, 0)
        builder = x509.CertificateBuilder().subject_name(names[i]).issuer_name(names[above])
        builder = builder.public_key(keys[i].public_key()).serial_number(i + 1)
        builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(
            datetime(2027, 1, 1, tzinfo=UTC)
        )
        builder = builder.add_extension(x509.BasicConstraints(i < 2, 1 - i if i < 2 else None), critical=True)
        made.append(builder.sign(keys[above], hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem = keys[2].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, made[2], made[1], made[0]
