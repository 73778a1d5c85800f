"""Whether certificate, key, bundle and CRLs match."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.errors import PeerMaterialWrong
from keyreeve.keys import parse_key
from keyreeve.membership_values import Epoch
from keyreeve.trusted_certificates import issuer_among
from keyreeve_agent.material.values import Material


def authorities_of(material: Material) -> tuple[x509.Certificate, ...]:
    """The certificates of the bundle."""
    return tuple(x509.load_der_x509_certificate(one.certificate_der) for one in material.epoch.authorities)


def check_material(material: Material, name: str) -> x509.Certificate:
    """Return the certificate of a set that matches. Raises `PeerMaterialWrong`."""
    try:
        leaf = x509.load_der_x509_certificate(material.certificate_der)
        key = parse_key(material.key_pem).public_key()
        authorities = authorities_of(material)
        crls = [x509.load_der_x509_crl(der) for der in material.crls_der]
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except ValueError as failure:
        raise PeerMaterialWrong(f"the peer material cannot be read: {failure}") from None
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise PeerMaterialWrong("the peer certificate is for another key")
    if issuer_among(leaf, authorities) is None:
        raise PeerMaterialWrong("the peer certificate's issuer is not in the bundle")
    if peer_name(leaf) != name:
        raise PeerMaterialWrong(f"the peer certificate is not for {name}")
    subjects = {one.subject for one in authorities}
    if any(crl.issuer not in subjects for crl in crls):
        raise PeerMaterialWrong("a CRL's issuer is not in the bundle")
    return leaf


def crls_of(crls_der: tuple[bytes, ...], epoch: Epoch) -> tuple[bytes, ...]:
    """The CRLs that authorities of this epoch have issued."""
    subjects = {x509.load_der_x509_certificate(one.certificate_der).subject for one in epoch.authorities}
    return tuple(der for der in crls_der if x509.load_der_x509_crl(der).issuer in subjects)


def peer_name(certificate: x509.Certificate) -> str | None:
    """The name of a peer certificate: its CN, which is its one subject alternative name. None: it is no such certificate."""
    common_names = [a.value for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    names = dns_names(certificate)
    return names[0] if len(names) == 1 and common_names == names else None


def dns_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names of a certificate that has no others."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    names = found.get_values_for_type(x509.DNSName)
    return list(names) if len(names) == len(found) else []
