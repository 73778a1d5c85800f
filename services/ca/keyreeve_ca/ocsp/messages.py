"""OCSP (RFC 6960): responder certificates and responses, checked by parsing with another library."""

import hashlib
import time
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from keyreeve_ca.authorities.ca_certificate_check import check_responder, check_signed_by
from keyreeve_ca.certificates import der_writer as der
from keyreeve_ca.certificates.algorithms import SIGNATURE_ALGORITHM
from keyreeve_ca.certificates.plan import Issuer
from keyreeve_ca.certificates.signers import IssuingSigner
from keyreeve_ca.certificates.template import (
    EMPTY_SEQUENCE,
    OID_BASIC_CONSTRAINTS,
    OID_COMMON_NAME,
    OID_EXTENDED_KEY_USAGE,
    OID_KEY_USAGE,
    VERSION_3,
    authority_key_identifier,
    certificate,
    key_identifier,
    subject_key_identifier,
)
from keyreeve_chassis.keys.ports import Signer

_OID_OCSP_SIGNING = der.oid("1.3.6.1.5.5.7.3.9")
_OID_BASIC = der.oid("1.3.6.1.5.5.7.48.1.1")
_OID_NONCE = der.oid("1.3.6.1.5.5.7.48.1.2")
_OID_NO_CHECK = der.oid("1.3.6.1.5.5.7.48.1.5")
_NULL = b"\x05\x00"
_ENUMERATED = 0x0A
_HASHES = {
    "sha1": der.sequence(der.oid("1.3.14.3.2.26"), _NULL),
    "sha256": der.sequence(der.oid("2.16.840.1.101.3.4.2.1"), _NULL),
    "sha384": der.sequence(der.oid("2.16.840.1.101.3.4.2.2"), _NULL),
    "sha512": der.sequence(der.oid("2.16.840.1.101.3.4.2.3"), _NULL),
}
HASH_NAMES = tuple(_HASHES)
"""Hashes with which a request may name the issuer."""


@dataclass(frozen=True, slots=True)
class CertificateId:
    """CertID of a request (RFC 6960, 4.1.1)."""

    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True)
class Good:
    """The certificate was issued and has not been revoked."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """This authority issued no such certificate."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The certificate has been revoked; `reason` is a CRLReason, and 0 is left out."""

    revoked_at: int
    reason: int


Status = Good | Unknown | Revoked


def issuer_hashes(certificate_der: bytes, hash_name: str) -> tuple[bytes, bytes]:
    """The issuer's name hash and key hash (RFC 6960, 4.1.1)."""
    parsed = x509.load_der_x509_certificate(certificate_der)
    spki = parsed.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = der.subject_public_key(spki)
    return hashlib.new(hash_name, parsed.subject.public_bytes()).digest(), hashlib.new(hash_name, key).digest()


def build_responder(
    issuer: Issuer, issuer_signer: IssuingSigner, spki: bytes, serial: bytes, *, not_before: int, not_after: int
) -> bytes:
    """Build a delegated responder certificate (RFC 6960, 4.2.2.2).

    It has id-pkix-ocsp-nocheck (4.2.2.2.1), so it must be short-lived. Raises `FinalCheckFailed` when the result is not
    exactly that.
    """
    parent = x509.load_der_x509_certificate(issuer.certificate_der)
    algorithm = SIGNATURE_ALGORITHM[issuer_signer.key_type]
    extensions = (
        authority_key_identifier(parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest)
        + subject_key_identifier(key_identifier(spki))
        + der.extension(OID_KEY_USAGE, der.named_bits({0}), critical=True)
        + der.extension(OID_EXTENDED_KEY_USAGE, der.sequence(_OID_OCSP_SIGNING))
        + der.extension(OID_BASIC_CONSTRAINTS, EMPTY_SEQUENCE, critical=True)
        + der.extension(_OID_NO_CHECK, _NULL)
    )
    tbs = der.sequence(
        VERSION_3,
        der.tlv(der.INTEGER, serial),
        algorithm,
        parent.subject.public_bytes(),
        der.validity(not_before, not_after),
        der.sequence(der.utf8_attribute(OID_COMMON_NAME, f"OCSP {issuer.authority_id}"[:64])),
        spki,
        der.tlv(0xA3, der.sequence(extensions)),
    )
    checked = check_responder(tbs, issuer, spki, serial, not_before=not_before, not_after=not_after)
    signed = certificate(tbs, algorithm, issuer_signer.sign(checked))
    check_signed_by(signed, tbs, issuer)
    return signed


def refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    """Build an unsigned error response (RFC 6960, 4.2.1)."""
    return der.sequence(der.tlv(_ENUMERATED, bytes((status.value,))))


def build_answer(
    asked: CertificateId,
    status: Status,
    *,
    signer: Signer,
    responder_der: bytes,
    produced_at: int,
    this_update: int,
    next_update: int,
    nonce: bytes | None,
) -> bytes:
    """Build a signed response (RFC 6960, 4.2.1) with the responder's certificate and any nonce."""
    key_hash = hashlib.sha1(der.subject_public_key(signer.spki), usedforsecurity=False).digest()  # RFC 6960, 4.2.1
    single = der.sequence(
        der.sequence(
            _HASHES[asked.hash_name],
            der.tlv(der.OCTET_STRING, asked.issuer_name_hash),
            der.tlv(der.OCTET_STRING, asked.issuer_key_hash),
            der.integer(asked.serial),
        ),
        _status(status),
        _time(this_update),
        der.tlv(0xA0, _time(next_update)),
    )
    extensions = b""
    if nonce is not None:
        extensions = der.tlv(0xA1, der.sequence(der.extension(_OID_NONCE, der.tlv(der.OCTET_STRING, nonce))))
    data = der.sequence(
        der.tlv(0xA2, der.tlv(der.OCTET_STRING, key_hash)), _time(produced_at), der.sequence(single), extensions
    )
    signature = der.tlv(der.BIT_STRING, b"\x00" + signer.sign(data))
    certificates = der.tlv(0xA0, der.sequence(responder_der))
    basic = der.sequence(data, SIGNATURE_ALGORITHM[signer.key_type], signature, certificates)
    body = der.sequence(_OID_BASIC, der.tlv(der.OCTET_STRING, basic))
    return der.sequence(der.tlv(_ENUMERATED, b"\x00"), der.tlv(0xA0, body))


def _status(status: Status) -> bytes:
    match status:
        case Good():
            return b"\x80\x00"
        case Unknown():
            return b"\x82\x00"
        case Revoked(revoked_at, reason):
            why = der.tlv(0xA0, der.tlv(_ENUMERATED, bytes((reason,)))) if reason else b""
            return der.tlv(0xA1, _time(revoked_at) + why)


def _time(seconds: int) -> bytes:
    """Encode GeneralizedTime, which OCSP uses for every year."""
    return der.tlv(der.GENERALIZED_TIME, time.strftime("%Y%m%d%H%M%SZ", time.gmtime(seconds)).encode())
