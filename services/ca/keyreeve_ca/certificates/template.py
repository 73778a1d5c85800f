"""Leaf certificates from a template: encoded once per profile and authority, then only what differs is spliced in.

The fixed order of extensions (authority key, subject key, key usage, extended key usage, basic constraints, names, CRL,
addresses of the responder and the issuer) is part of what `final_check` demands. That every byte equals what
`cryptography`'s builder makes of the same plan is a property test.
"""

from functools import lru_cache
from hashlib import sha256

from cryptography import x509

from keyreeve_ca.certificates import der_writer as der
from keyreeve_ca.certificates.algorithms import SIGNATURE_ALGORITHM
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.profiles.profile import ExtendedKeyUsage, KeyUsage, ProfileVersion, SubjectAttribute

OID_COMMON_NAME = der.oid("2.5.4.3")
OID_SUBJECT_KEY_IDENTIFIER = der.oid("2.5.29.14")
OID_KEY_USAGE = der.oid("2.5.29.15")
OID_SUBJECT_ALTERNATIVE_NAME = der.oid("2.5.29.17")
OID_BASIC_CONSTRAINTS = der.oid("2.5.29.19")
OID_CRL_DISTRIBUTION_POINTS = der.oid("2.5.29.31")
OID_AUTHORITY_KEY_IDENTIFIER = der.oid("2.5.29.35")
OID_EXTENDED_KEY_USAGE = der.oid("2.5.29.37")
OID_AUTHORITY_INFORMATION_ACCESS = der.oid("1.3.6.1.5.5.7.1.1")
_OID_OCSP = der.oid("1.3.6.1.5.5.7.48.1")
_OID_CA_ISSUERS = der.oid("1.3.6.1.5.5.7.48.2")

_ATTRIBUTES = {
    SubjectAttribute.C: (der.oid("2.5.4.6"), der.PRINTABLE_STRING),
    SubjectAttribute.ST: (der.oid("2.5.4.8"), der.UTF8_STRING),
    SubjectAttribute.L: (der.oid("2.5.4.7"), der.UTF8_STRING),
    SubjectAttribute.O: (der.oid("2.5.4.10"), der.UTF8_STRING),
    SubjectAttribute.OU: (der.oid("2.5.4.11"), der.UTF8_STRING),
    SubjectAttribute.SERIAL_NUMBER: (der.oid("2.5.4.5"), der.PRINTABLE_STRING),
    SubjectAttribute.EMAIL_ADDRESS: (der.oid("1.2.840.113549.1.9.1"), der.IA5_STRING),
}
"""String types of RFC 5280, appendix A.1."""

VERSION_3 = b"\xa0\x03\x02\x01\x02"
EMPTY_SEQUENCE = b"\x30\x00"

_KEY_USAGE_BIT = {KeyUsage.DIGITAL_SIGNATURE: 0, KeyUsage.KEY_ENCIPHERMENT: 2}
_PURPOSE = {
    ExtendedKeyUsage.SERVER_AUTH: der.oid("1.3.6.1.5.5.7.3.1"),
    ExtendedKeyUsage.CLIENT_AUTH: der.oid("1.3.6.1.5.5.7.3.2"),
}


def key_identifier(spki: bytes) -> bytes:
    """Identify a key by the leftmost 160 bits of SHA-256 over its bits (RFC 7093, section 2, method 1)."""
    return sha256(der.subject_public_key(spki)).digest()[:20]


def crl_distribution_points(url: str, authority_id: str, shard: int) -> bytes:
    """Encode the extension with the URL of the one CRL shard that can list a certificate."""
    address = der.tlv(0x86, f"{url}/crl/{authority_id}/{shard}.crl".encode("ascii"))
    point = der.sequence(der.tlv(0xA0, der.tlv(0xA0, address)))
    return der.extension(OID_CRL_DISTRIBUTION_POINTS, der.sequence(point))


def authority_information_access(url: str, authority_id: str) -> bytes:
    """Encode the extension with the OCSP URL and the issuer certificate's URL."""
    responder = der.sequence(_OID_OCSP, der.tlv(0x86, f"{url}/ocsp".encode("ascii")))
    issuer = der.sequence(_OID_CA_ISSUERS, der.tlv(0x86, f"{url}/ca/{authority_id}.crt".encode("ascii")))
    return der.extension(OID_AUTHORITY_INFORMATION_ACCESS, der.sequence(responder, issuer))


def authority_key_identifier(key_id: bytes) -> bytes:
    """Encode the extension that names the issuer's key by its key identifier only."""
    return der.extension(OID_AUTHORITY_KEY_IDENTIFIER, der.sequence(der.tlv(0x80, key_id)))


def subject_key_identifier(key_id: bytes) -> bytes:
    """Encode the extension with the key identifier of the certified key."""
    return der.extension(OID_SUBJECT_KEY_IDENTIFIER, der.tlv(der.OCTET_STRING, key_id))


class Template:
    """Encodes the certificates of one profile version from one authority."""

    def __init__(self, profile_version: ProfileVersion, issuer: Issuer) -> None:
        profile = profile_version.profile
        certificate = x509.load_der_x509_certificate(issuer.certificate_der)
        issuer_key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        self._algorithm = SIGNATURE_ALGORITHM[issuer.key_type]
        self._algorithm_and_issuer = self._algorithm + certificate.subject.public_bytes()
        self._authority_key_identifier = authority_key_identifier(issuer_key_id)
        bits = {_KEY_USAGE_BIT[usage] for usage in profile.key_usage}
        self._usages_rsa = _usages(bits, profile.extended_key_usage)
        # RFC 8813, section 3: an elliptic-curve key must not claim keyEncipherment.
        self._usages_other = _usages(bits - {2}, profile.extended_key_usage)
        access = authority_information_access(issuer.url, issuer.authority_id)

        def revocation_and_issuer(shard: int) -> bytes:
            return crl_distribution_points(issuer.url, issuer.authority_id, shard) + access

        self._revocation_and_issuer = lru_cache(maxsize=64)(revocation_and_issuer)

    def tbs(self, plan: CertificatePlan, serial: bytes, crl_shard: int) -> bytes:
        """Encode the TBSCertificate (RFC 5280, 4.1.2) of a plan under a reserved serial number of 16 octets."""
        common_name = plan.common_name
        subject = b"" if common_name is None else der.utf8_attribute(OID_COMMON_NAME, common_name)
        if plan.attributes:
            subject = b"".join(_attribute(attribute, text) for attribute, text in plan.attributes) + subject
        extensions = (
            self._authority_key_identifier
            + subject_key_identifier(key_identifier(plan.spki))
            + (self._usages_rsa if plan.key_type.is_rsa else self._usages_other)
            # RFC 5280, 4.2.1.6: names are critical when they are all there is to name the subject.
            + der.extension(OID_SUBJECT_ALTERNATIVE_NAME, der.general_names(plan.names), critical=not subject)
            + self._revocation_and_issuer(crl_shard)
        )
        return der.tlv(
            der.SEQUENCE,
            VERSION_3
            + der.tlv(der.INTEGER, serial)
            + self._algorithm_and_issuer
            + der.validity(plan.not_before, plan.not_after)
            + der.tlv(der.SEQUENCE, subject)
            + plan.spki
            + der.tlv(0xA3, der.tlv(der.SEQUENCE, extensions)),
        )

    def certificate(self, tbs: bytes, signature: bytes) -> bytes:
        """Join a TBSCertificate and its signature."""
        return certificate(tbs, self._algorithm, signature)


def certificate(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """Certificate (RFC 5280, 4.1): what is signed, how, and the signature as a BIT STRING."""
    return der.tlv(der.SEQUENCE, tbs + algorithm + der.tlv(der.BIT_STRING, b"\x00" + signature))


def _attribute(attribute: SubjectAttribute, text: str) -> bytes:
    oid, tag = _ATTRIBUTES[attribute]
    return der.attribute(oid, tag, text)


def _usages(bits: set[int], purposes: frozenset[ExtendedKeyUsage]) -> bytes:
    """Encode key usage, extended key usage and basic constraints, in this order; empty usages are left out.

    Basic constraints are always present, critical and empty: "not a CA" then does not depend on how a verifier treats a
    certificate without them.
    """
    key_usage = der.extension(OID_KEY_USAGE, der.named_bits(bits), critical=True) if bits else b""
    listed = b"".join(_PURPOSE[purpose] for purpose in sorted(purposes, reverse=True))  # server before client
    extended = der.extension(OID_EXTENDED_KEY_USAGE, der.sequence(listed)) if purposes else b""
    return key_usage + extended + der.extension(OID_BASIC_CONSTRAINTS, EMPTY_SEQUENCE, critical=True)
