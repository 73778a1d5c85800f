"""The check of a CA certificate: it is read back with `cryptography`, which had no part in encoding it."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from keyreeve.errors import FinalCheckFailed
from keyreeve_ca.authorities.ca_certificate_plan import AuthorityPlan, NameConstraints, constraints_of, name_of, spki_of
from keyreeve_ca.certificates.plan import Issuer

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


def check_authority(
    der: bytes, plan: AuthorityPlan, spki: bytes, serial: bytes, *, issuer: Issuer | None, crl_shard: int
) -> None:
    """Raise `FinalCheckFailed` unless the signed certificate is exactly the plan, signed by the issuer's key."""
    certificate = x509.load_der_x509_certificate(der)
    parent = certificate if issuer is None else x509.load_der_x509_certificate(issuer.certificate_der)
    for what, found, planned in (
        ("version", certificate.version, x509.Version.v3),
        ("serial number", certificate.serial_number, int.from_bytes(serial, "big")),
        ("subject", certificate.subject, name_of(plan)),
        ("issuer", certificate.issuer.public_bytes(), parent.subject.public_bytes()),
        ("notBefore", int(certificate.not_valid_before_utc.timestamp()), plan.not_before),
        ("notAfter", int(certificate.not_valid_after_utc.timestamp()), plan.not_after),
        ("key", spki_of(certificate), spki),
        ("extensions", _extensions(certificate), _expected(plan, certificate, parent, issuer, crl_shard)),
    ):
        if found != planned:
            raise FinalCheckFailed(f"the authority's certificate differs from its plan in: {what}")
    try:
        certificate.verify_directly_issued_by(parent)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise FinalCheckFailed("the authority's certificate does not verify under its issuer's key") from error


def _extensions(certificate: x509.Certificate) -> dict[x509.ObjectIdentifier, tuple[bool, object]]:
    return {extension.oid: (extension.critical, extension.value) for extension in certificate.extensions}


def _expected(
    plan: AuthorityPlan, certificate: x509.Certificate, parent: x509.Certificate, issuer: Issuer | None, crl_shard: int
) -> dict[x509.ObjectIdentifier, tuple[bool, object]]:
    """Say what extensions the certificate must have: no more, no fewer, with this criticality."""
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
