"""Proofs with which operators open sessions at a gateway (docs/protocols.md)."""

import hashlib
import os
import time as clock
from collections.abc import Callable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from keyreeve.context import Context
from keyreeve.errors import ContextInvalid, SessionProofRefused
from keyreeve.keys import load_certificates, load_key
from keyreeve.length_prefix import length_prefixed
from keyreeve.proof_values import CertificateProof

NONCE_OCTETS = 32
_LABEL = b"keyreeve-session-1"


def session_proof_message(gateway_spki_sha256: bytes, nonce: bytes, time: int) -> bytes:
    """Encode what the key of an operator's certificate signs."""
    return length_prefixed(_LABEL, gateway_spki_sha256, nonce, time.to_bytes(8, "big"))


def certificate_proof(
    context: Context,
    gateway_spki_sha256: bytes,
    *,
    now: Callable[[], float] = clock.time,
    random: Callable[[int], bytes] = os.urandom,
) -> CertificateProof:
    """Prove with the context's certificate and key that their holder opens a session at the gateway with this key.

    Raises `ContextInvalid` when the context's certificate and key cannot be used.
    """
    try:
        certificate_der, key = load_certificates(context.certificate)[0], load_key(context.key)
    except (OSError, ValueError) as failure:
        raise ContextInvalid(f"the context's certificate and key cannot be read: {failure}") from None
    nonce, time = random(NONCE_OCTETS), int(now())
    message = session_proof_message(gateway_spki_sha256, nonce, time)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    elif isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    else:
        raise ContextInvalid("the context's key is neither RSA nor ECDSA")
    return CertificateProof(certificate_der, nonce, time, signature)


def verify_certificate_proof(proof: CertificateProof, gateway_spki_sha256: bytes) -> None:
    """Check the signature of a proof; whose certificate it is, and the time, are for the caller to check.

    Raises `SessionProofRefused`.
    """
    if len(proof.nonce) != NONCE_OCTETS:
        raise SessionProofRefused(f"the nonce of a proof has {NONCE_OCTETS} octets")
    try:
        key = x509.load_der_x509_certificate(proof.certificate_der).public_key()
        message = session_proof_message(gateway_spki_sha256, proof.nonce, proof.time)
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(proof.signature, message, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(proof.signature, message, padding.PKCS1v15(), hashes.SHA256())
        else:
            raise InvalidSignature  # noqa: TRY301  # refused like a wrong signature
    except (ValueError, OverflowError, InvalidSignature):
        raise SessionProofRefused("the proof was not signed with this certificate's key for this gateway") from None


def spki_sha256(certificate_der: bytes) -> bytes:
    """Hash the SubjectPublicKeyInfo of a certificate, as proofs and tickets name the key of a gateway."""
    public_key = x509.load_der_x509_certificate(certificate_der).public_key()
    spki = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).digest()
