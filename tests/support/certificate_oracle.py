"""The oracle of the encoder: `cryptography`'s own builder makes the same certificate from the same plan."""

from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from keyreeve.values import Name, NameType
from keyreeve_ca.certificates.plan import CertificatePlan, Issuer
from keyreeve_ca.profiles.profile import ExtendedKeyUsage, KeyUsage, SubjectAttribute
from keyreeve_chassis.keys.key_types import KeyType
from support.certificate_plans import PrivateKey, private_key

_PURPOSES = (
    (ExtendedKeyUsage.SERVER_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    (ExtendedKeyUsage.CLIENT_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
)
_ATTRIBUTES = {
    SubjectAttribute.C: NameOID.COUNTRY_NAME,
    SubjectAttribute.ST: NameOID.STATE_OR_PROVINCE_NAME,
    SubjectAttribute.L: NameOID.LOCALITY_NAME,
    SubjectAttribute.O: NameOID.ORGANIZATION_NAME,
    SubjectAttribute.OU: NameOID.ORGANIZATIONAL_UNIT_NAME,
    SubjectAttribute.SERIAL_NUMBER: NameOID.SERIAL_NUMBER,
    SubjectAttribute.EMAIL_ADDRESS: NameOID.EMAIL_ADDRESS,
}


def build_tbs(plan: CertificatePlan, serial: bytes, crl_shard: int, issuer: Issuer) -> bytes:
    """Return the TBSCertificate that the builder makes; the signature under it is by a key that fits the issuer's type."""
    parent = x509.load_der_x509_certificate(issuer.certificate_der)
    key = load_der_public_key(plan.spki)
    profile = plan.profile.profile
    subject = [x509.NameAttribute(_ATTRIBUTES[attribute], text) for attribute, text in plan.attributes]
    subject += [] if plan.common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, plan.common_name)]
    usages = set(profile.key_usage) - (set() if plan.key_type.is_rsa else {KeyUsage.KEY_ENCIPHERMENT})
    builder = (
        x509.CertificateBuilder()
        .serial_number(int.from_bytes(serial, "big"))
        .issuer_name(parent.subject)
        .not_valid_before(datetime.fromtimestamp(plan.not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(plan.not_after, UTC))
        .subject_name(x509.Name(subject))
        .public_key(key)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier(_key_id(key)), critical=False)
    )
    if usages:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=KeyUsage.DIGITAL_SIGNATURE in usages,
                content_commitment=False,
                key_encipherment=KeyUsage.KEY_ENCIPHERMENT in usages,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    purposes = [oid for purpose, oid in _PURPOSES if purpose in profile.extended_key_usage]
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    list_url = x509.UniformResourceIdentifier(f"{issuer.url}/crl/{issuer.authority_id}/{crl_shard}.crl")
    ocsp_url = x509.UniformResourceIdentifier(f"{issuer.url}/ocsp")
    ca_url = x509.UniformResourceIdentifier(f"{issuer.url}/ca/{issuer.authority_id}.crt")
    signed = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in plan.names]), critical=not subject)
        .add_extension(
            x509.CRLDistributionPoints([x509.DistributionPoint([list_url], None, None, None)]), critical=False
        )
        .add_extension(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(AuthorityInformationAccessOID.OCSP, ocsp_url),
                    x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, ca_url),
                ]
            ),
            critical=False,
        )
        .sign(*_signing(issuer.key_type))
    )
    return signed.tbs_certificate_bytes


def _signing(key_type: KeyType) -> tuple[PrivateKey, SHA256 | SHA384 | None]:
    if key_type is KeyType.ED25519:
        return private_key(key_type, 9), None
    return private_key(key_type, 9), SHA384() if key_type in {KeyType.P384, KeyType.RSA4096} else SHA256()


def _general_name(name: Name) -> x509.GeneralName:
    match name.type:
        case NameType.DNS:
            return x509.DNSName(name.value)
        case NameType.URI:
            return x509.UniformResourceIdentifier(name.value)
        case NameType.IP:
            return x509.IPAddress(ip_address(name.value))
        case NameType.EMAIL:
            return x509.RFC822Name(name.value)


def _key_id(key: object) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match key:
        case ec.EllipticCurvePublicKey():
            bits = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        case ed25519.Ed25519PublicKey():
            bits = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        case rsa.RSAPublicKey():
            bits = key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
        case _:
            raise TypeError(type(key))
    digest = Hash(SHA256())
    digest.update(bits)
    return digest.finalize()[:20]
