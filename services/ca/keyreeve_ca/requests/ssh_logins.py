"""Proofs of SSH logins: what a client signs to log in with a key or a user certificate.

Sources: RFC 4252 section 7 (what is signed), OpenSSH's PROTOCOL.certkeys (certificates and their critical options).
"""

import base64
import ipaddress
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    load_ssh_public_identity,
)

from keyreeve.errors import KeyreeveError, SessionProofRefused
from keyreeve.length_prefix import length_prefixed
from keyreeve.session_values import SshProof
from keyreeve_ca.requests.key_rules import KnownKeys
from keyreeve_ca.requests.openssh_keys import OperatorKey, read_operator_key
from keyreeve_ca.requests.openssh_signatures import verify_signature

MOST_CERTIFICATE_SECONDS = 86_400
"""The longest life of a user certificate."""
SESSION_ID_OCTETS = (32, 48, 64)
"""Lengths of the hashes that key exchanges use."""
_USERAUTH_REQUEST = b"\x32"
_CERTIFICATE = "-cert-v01@openssh.com"
_LARGEST = 8192
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class SshLogin:
    """A login whose signature is right; whether anybody may log in so, the records say."""

    key: OperatorKey
    """The key that signed."""
    authority: OperatorKey | None = None
    """The CA that certified it; None: it has to be registered itself."""
    principals: frozenset[str] = frozenset()
    """The names that the certificate is for."""
    not_after: int | None = None
    source_addresses: tuple[str, ...] = field(default=())
    """Networks from which the certificate may be used; empty: from anywhere."""

    def refuse_elsewhere(self, client_address: str) -> None:
        """Raise `SessionProofRefused` where the certificate does not allow the client's address."""
        if not self.source_addresses:
            return
        try:
            address = ipaddress.ip_address(client_address)
            allowed = any(address in ipaddress.ip_network(network, strict=False) for network in self.source_addresses)
        except ValueError:
            allowed = False
        if not allowed:
            raise SessionProofRefused("the certificate may not be used from the client's address")


def login_message(proof: SshProof) -> bytes:
    """Encode what the client signs (RFC 4252 section 7)."""
    public_key = length_prefixed(b"publickey") + b"\x01" + length_prefixed(proof.algorithm.encode(), proof.public_key)
    request = length_prefixed(proof.user_name.encode(), b"ssh-connection") + public_key
    return length_prefixed(proof.session_id) + _USERAUTH_REQUEST + request


def read_login(proof: SshProof, known: KnownKeys, now: int) -> SshLogin:
    """Check everything about a login that takes no records. Raises `SessionProofRefused`."""
    if len(proof.session_id) not in SESSION_ID_OCTETS or len(proof.public_key) + len(proof.signature) > _LARGEST:
        raise SessionProofRefused("the session id, the key or the signature of the login has no usual length")
    if len(proof.user_name) > _LONGEST_NAME or not proof.user_name.isprintable() or not proof.algorithm.isprintable():
        raise SessionProofRefused("the login has no usable user name or algorithm")
    algorithm = proof.algorithm.removesuffix(_CERTIFICATE)
    try:
        if algorithm == proof.algorithm:
            login = SshLogin(_key(proof.public_key, known))
        else:
            login = _certified(proof.public_key, known, now)
        verify_signature(login.key, proof.signature, login_message(proof), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        raise SessionProofRefused("the login was not signed with this key for this session") from None
    except SessionProofRefused:
        raise
    except KeyreeveError as refused:
        raise SessionProofRefused(refused.message) from None
    return login


def _key(blob: bytes, known: KnownKeys) -> OperatorKey:
    size = int.from_bytes(blob[:4], "big")
    line = f"{blob[4 : 4 + size].decode('ascii', 'replace')} {base64.b64encode(blob).decode()}"
    return read_operator_key(line, known, "public_key")


def _certified(blob: bytes, known: KnownKeys, now: int) -> SshLogin:
    size = int.from_bytes(blob[:4], "big")
    certificate = load_ssh_public_identity(blob[4 : 4 + size] + b" " + base64.b64encode(blob))
    if not isinstance(certificate, SSHCertificate):
        raise SessionProofRefused("the login's algorithm is for a certificate, and its key is none")
    certificate.verify_cert_signature()
    if certificate.type is not SSHCertificateType.USER:
        raise SessionProofRefused("the certificate is no user's")
    begins, ends = certificate.valid_after, certificate.valid_before
    if not begins <= now < ends:
        raise SessionProofRefused("the certificate has expired or is not valid yet")
    if ends - begins > MOST_CERTIFICATE_SECONDS:
        raise SessionProofRefused("the certificate is valid for more than 24 hours")
    options = dict(certificate.critical_options)
    sources = options.pop(b"source-address", b"").decode("ascii", "replace")
    if options:
        raise SessionProofRefused("the certificate has a critical option that is not enforced here")
    return SshLogin(
        _listed(certificate.public_key(), known),
        _listed(certificate.signature_key(), known),
        frozenset(one.decode("utf-8", "replace") for one in certificate.valid_principals),
        ends - 1,
        tuple(sources.split(",")) if sources else (),
    )


def _listed(key: "object", known: KnownKeys) -> OperatorKey:
    line: bytes = key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)  # type: ignore[attr-defined]
    return read_operator_key(line.decode(), known, "public_key")
