"""Sets of trusted certificates: which of them issued a certificate, and the digest of a set."""

import hashlib
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from keyreeve.length_prefix import length_prefixed


def issuer_among(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The authority whose key made the signature; a matching name proves nothing."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue  # another name, another kind of key, or another key of the same name
        return authority
    return None


def bundle_digest(certificates_der: Iterable[bytes]) -> bytes:
    """SHA-256 over the certificates, each preceded by its length in 4 octets, sorted by their bytes."""
    return hashlib.sha256(length_prefixed(*sorted(certificates_der))).digest()
