"""The final check of CA certificates and OCSP responder certificates.

They are decoded with `cryptography`, which had no part in encoding them. Leaves have a check of their own
(`certificates.final_check`).
"""

from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.authorities.ca_certificate_plan import AuthorityPlan, NameConstraints, constraints_of, name_of, spki_of
from keyreeve_ca.certificates.final_check import check_signed
from keyreeve_ca.certificates.final_reading import INTEGER, SEQUENCE, Malformed, enter, enter_whole
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.certificates.signers import CheckedTbs, mark_checked

_KEY_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
_RESPONDER_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

Extensions = dict[x509.ObjectIdentifier, tuple[bool, object]]
"""By OID: whether critical, and the value."""


def check_authority(
    tbs: bytes, plan: AuthorityPlan, spki: bytes, serial: bytes, *, issuer: Issuer | None, crl_shard: int
) -> CheckedTbs:
    """Raise `FinalCheckFailed` unless `tbs` encodes exactly the plan; `issuer` is None for a root."""
    certificate = _read_unsigned(tbs)
    parent = certificate if issuer is None else x509.load_der_x509_certificate(issuer.certificate_der)
    _compare(
        "the authority's certificate",
        certificate,
        parent,
        serial=serial,
        subject=name_of(plan),
        validity=(plan.not_before, plan.not_after),
        spki=spki,
        expected=lambda: _expected(plan, certificate, parent, issuer, crl_shard),
    )
    return mark_checked(tbs)


def check_responder(
    tbs: bytes, issuer: Issuer, spki: bytes, serial: bytes, *, not_before: int, not_after: int
) -> CheckedTbs:
    """Raise `FinalCheckFailed` unless `tbs` certifies the key to sign OCSP responses for `issuer` only."""
    certificate = _read_unsigned(tbs)
    parent = x509.load_der_x509_certificate(issuer.certificate_der)
    _compare(
        "an OCSP responder's certificate",
        certificate,
        parent,
        serial=serial,
        subject=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"OCSP {issuer.authority_id}"[:64])]),
        validity=(not_before, not_after),
        spki=spki,
        expected=lambda: _expected_of_responder(certificate, parent),
    )
    return mark_checked(tbs)


def check_signed_by(der: bytes, tbs: bytes, issuer: Issuer | None) -> None:
    """Raise `FinalCheckFailed` unless `der` is `tbs` with a valid signature; `issuer` is None for a root."""
    check_signed(der, tbs)
    certificate = x509.load_der_x509_certificate(der)
    parent = certificate if issuer is None else x509.load_der_x509_certificate(issuer.certificate_der)
    try:
        certificate.verify_directly_issued_by(parent)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise FinalCheckFailed("the certificate does not verify under its issuer's key") from error


def _read_unsigned(tbs: bytes) -> x509.Certificate:
    """Parse a TBSCertificate as a certificate with an empty signature."""
    try:
        position, end = enter_whole(tbs, SEQUENCE)
        for tag in (0xA0, INTEGER):  # version, serial number
            _, position = enter(tbs, position, end, tag)
        _, algorithm_end = enter(tbs, position, end, SEQUENCE)
        body = tbs + tbs[position:algorithm_end] + b"\x03\x01\x00"
        octets = (len(body).bit_length() + 7) // 8
        length = bytes([len(body)]) if len(body) < 0x80 else bytes([0x80 + octets]) + len(body).to_bytes(octets)
        return x509.load_der_x509_certificate(b"\x30" + length + body)
    except (Malformed, IndexError, ValueError) as error:
        raise FinalCheckFailed(f"the TBSCertificate cannot be read: {error}") from error


def _compare(
    name: str,
    certificate: x509.Certificate,
    parent: x509.Certificate,
    *,
    serial: bytes,
    subject: x509.Name,
    validity: tuple[int, int],
    spki: bytes,
    expected: Callable[[], Extensions],
) -> None:
    for what, found, planned in (
        ("version", certificate.version, x509.Version.v3),
        ("serial number", certificate.serial_number, int.from_bytes(serial, "big")),
        ("subject", certificate.subject, subject),
        ("issuer", certificate.issuer.public_bytes(), parent.subject.public_bytes()),
        ("notBefore", int(certificate.not_valid_before_utc.timestamp()), validity[0]),
        ("notAfter", int(certificate.not_valid_after_utc.timestamp()), validity[1]),
        ("key", spki_of(certificate), spki),
        ("extensions", _extensions(certificate), expected()),
    ):
        if found != planned:
            raise FinalCheckFailed(f"{name} differs from its plan in: {what}")


def _extensions(certificate: x509.Certificate) -> Extensions:
    return {extension.oid: (extension.critical, extension.value) for extension in certificate.extensions}


def _expected(
    plan: AuthorityPlan, certificate: x509.Certificate, parent: x509.Certificate, issuer: Issuer | None, crl_shard: int
) -> Extensions:
    """Return the exact extensions that the certificate must have, with their criticality."""
    # Both identifiers are computed by other code than the encoder's (RFC 7093 method 1 is not `cryptography`'s own).
    parent_key_id = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    own_key_id = _rfc7093_key_id(certificate)
    wanted: list[tuple[bool, x509.ExtensionType]] = [
        (False, x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(parent_key_id)),
        (False, own_key_id),
        (True, _KEY_USAGE),
        (True, x509.BasicConstraints(ca=True, path_length=plan.path_length)),
    ]
    if plan.constraints != NameConstraints():
        if constraints_of(certificate) != plan.constraints:
            raise FinalCheckFailed("the authority's certificate differs from its plan in: name constraints")
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        wanted.append((True, constraints.value))
    if issuer is not None:
        list_url = x509.UniformResourceIdentifier(f"{issuer.url}/crl/{issuer.authority_id}/{crl_shard}.crl")
        point = x509.DistributionPoint([list_url], None, None, None)
        access = [
            x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
            for method, url in (
                (AuthorityInformationAccessOID.OCSP, f"{issuer.url}/ocsp"),
                (AuthorityInformationAccessOID.CA_ISSUERS, f"{issuer.url}/ca/{issuer.authority_id}.crt"),
            )
        ]
        wanted.append((False, x509.CRLDistributionPoints([point])))
        wanted.append((False, x509.AuthorityInformationAccess(access)))
    return {value.oid: (critical, value) for critical, value in wanted}


def _expected_of_responder(certificate: x509.Certificate, parent: x509.Certificate) -> Extensions:
    """Return the extensions of a responder certificate (RFC 6960, 4.2.2.2).

    It has id-pkix-ocsp-nocheck (4.2.2.2.1), so it cannot be revoked and must be short-lived.
    """
    parent_key_id = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    wanted: tuple[tuple[bool, x509.ExtensionType], ...] = (
        (False, x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(parent_key_id)),
        (False, _rfc7093_key_id(certificate)),
        (True, _RESPONDER_KEY_USAGE),
        (False, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])),
        (True, x509.BasicConstraints(ca=False, path_length=None)),
        (False, x509.OCSPNoCheck()),
    )
    return {value.oid: (critical, value) for critical, value in wanted}


def _rfc7093_key_id(certificate: x509.Certificate) -> x509.SubjectKeyIdentifier:
    key = certificate.public_key()
    match key:
        case ec.EllipticCurvePublicKey():
            bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        case rsa.RSAPublicKey():
            bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        case ed25519.Ed25519PublicKey():
            bits = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        case _:
            raise FinalCheckFailed("the authority's certificate holds a key of an unknown type")
    digest = Hash(SHA256())
    digest.update(bits)
    return x509.SubjectKeyIdentifier(digest.finalize()[:20])
