"""The CA certificate of an array, and how it is shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyreeve.errors import AuthorityNotFound
from keyreeve_gateway.invocation import Invocation

if TYPE_CHECKING:
    from keyreeve.membership_values import Array


@dataclass(frozen=True, slots=True)
class CaCertificate:
    """The certificate of an array's CA."""

    der: bytes
    sha256: bytes


async def ca_of(call: Invocation, array: "Array") -> CaCertificate:
    """Fetch the CA certificate of an array from its newest epoch. Raises `AuthorityNotFound`."""
    epoch = await call.services.membership.bundles.get(array.name)
    for authority in epoch.authorities:
        if authority.name == array.authority:
            return CaCertificate(authority.certificate_der, array.authority_sha256)
    raise AuthorityNotFound(f"the newest epoch of {array.name} does not contain {array.authority}")


def describe_ca(certificate: CaCertificate) -> Iterator[str]:
    """Lines on a CA certificate, with its fingerprints."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    parsed = x509.load_der_x509_certificate(certificate.der)
    yield f"Subject: {parsed.subject.rfc4514_string()}"
    yield f"Issuer: {parsed.issuer.rfc4514_string()}"
    yield f"Serial Number: {parsed.serial_number:x}"
    yield f"Not Before: {parsed.not_valid_before_utc:%Y-%m-%d %H:%M:%S} GMT"
    yield f"Not After : {parsed.not_valid_after_utc:%Y-%m-%d %H:%M:%S} GMT"
    yield f"SHA-256 Fingerprint: {parsed.fingerprint(hashes.SHA256()).hex(':').upper()}"
    yield f"SHA-1 Fingerprint: {parsed.fingerprint(hashes.SHA1()).hex(':').upper()}"  # noqa: S303 - shown beside SHA-256


def as_pem(certificate: CaCertificate) -> Iterator[str]:
    """Lines of the certificate in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    yield from x509.load_der_x509_certificate(certificate.der).public_bytes(Encoding.PEM).decode().splitlines()
