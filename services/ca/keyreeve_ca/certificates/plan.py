"""What is to be certified, and by which issuer: values between policy and encoder."""

from dataclasses import dataclass

from keyreeve.values import Hierarchy, Name
from keyreeve_ca.profiles.profile import ProfileVersion, SubjectAttribute
from keyreeve_chassis.keys.key_types import KeyType


@dataclass(frozen=True, slots=True)
class CertificatePlan:
    """Everything in a leaf's TBSCertificate but the issuer's part and the serial number."""

    profile: ProfileVersion
    spki: bytes
    """DER SubjectPublicKeyInfo, byte for byte as in the CSR."""
    key_type: KeyType
    common_name: str | None
    names: tuple[Name, ...]
    """In the order in which they were asked for, without duplicates."""
    not_before: int
    """Seconds since 1970, UTC."""
    not_after: int
    """Seconds since 1970, UTC; the last second in which the certificate is valid (RFC 5280, 4.1.2.5: inclusive)."""
    attributes: tuple[tuple[SubjectAttribute, str], ...] = ()
    """Of the subject, before the CN, in their order."""
    ignored: tuple[str, ...] = ()
    """Parts of the request that the certificate does not have."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority as the encoder and the final check need it, without its private key."""

    authority_id: str
    hierarchy: Hierarchy
    certificate_der: bytes
    key_type: KeyType
    not_before: int
    not_after: int
    """Inclusive, as in `CertificatePlan`."""
    url: str
    """Base of the plain-HTTP addresses in its certificates, such as `http://ca.example.test:8080`, without a final slash."""
    introduced: bool = False
    """Signs nothing but checks of whether it is accepted: profile `peer-check`."""
