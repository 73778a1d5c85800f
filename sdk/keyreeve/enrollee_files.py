"""The files of an enrollee: the key, the certificate, the context."""

import hashlib
import hmac
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.context import Context
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.errors import (
    ContextInvalid,
    EnrollmentRootWrong,
    EnrollmentServerUnproven,
    FileUnusable,
    ServiceUnreachable,
)
from keyreeve.files import write_atomically
from keyreeve.keys import PrivateKey, load_key, make_key, save_key
from keyreeve.values import Bundle, KeyType, to_pem

CONTEXT: Final = "context.json"
_MAX_CHAIN: Final = 8


@dataclass(frozen=True, slots=True)
class EnrolleeFiles:
    """The files of one identity, in a directory of its own."""

    directory: Path

    @property
    def context(self) -> Path:
        return self.directory / CONTEXT

    @property
    def key(self) -> Path:
        return self.directory / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.directory / "certificate.pem"

    @property
    def bundle(self) -> Path:
        return self.directory / "control.pem"

    @property
    def estate_bundle(self) -> Path:
        return self.directory / "estate.pem"

    @property
    def trust_root(self) -> Path:
        """The first root of the trust metadata, from which later ones are verified."""
        return self.directory / "root.json"

    def is_enrolled(self) -> bool:
        """Whether there is a certificate; bundles may still be missing."""
        return self.context.exists() and self.certificate.exists() and self.key.exists()

    def is_complete(self) -> bool:
        """Whether all files exist."""
        return self.is_enrolled() and self.bundle.exists() and self.estate_bundle.exists()

    def key_on_disk(self, key_type: KeyType) -> PrivateKey:
        """Return the key of an earlier attempt, or a new one that is on disk.

        Raises `FileUnusable`.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.key.exists():
                return load_key(self.key)
            key = make_key(key_type)
            save_key(self.key, key)
        except (OSError, ValueError) as failure:
            raise FileUnusable(f"cannot store a key in {self.directory}: {failure}") from None
        return key

    def save(
        self,
        token: EnrollmentToken,
        roots_der: Sequence[bytes],
        chain_der: Sequence[bytes],
        trust_root: bytes,
        endpoints: Mapping[str, Sequence[str]],
    ) -> Context:
        """Write the result of an enrollment.

        The context file is last, so that it implies all others.
        """
        try:
            context = Context(
                trust_domain=token.identity.trust_domain,
                endpoints=endpoints,
                bundle=self.bundle,
                estate_bundle=self.estate_bundle,
                certificate=self.certificate,
                key=self.key,
                path=self.context,
            )
        except ContextInvalid as failure:
            raise EnrollmentServerUnproven(f"the service sent invalid addresses: {failure}") from None
        write_atomically(self.trust_root, trust_root)
        write_atomically(self.bundle, to_pem(roots_der).encode())
        write_atomically(self.certificate, to_pem(chain_der).encode())
        context.save(self.context)
        return context

    def save_bundles(self, control: Bundle, estate: Bundle) -> None:
        """Write the present roots of both lines."""
        write_atomically(self.bundle, control.pem().encode())
        write_atomically(self.estate_bundle, estate.pem().encode())


def fetch_root(token: EnrollmentToken, seconds: float) -> bytes:
    """Fetch the DER root that the token names, in an unverified TLS handshake.

    The digest in the token identifies the root; nothing else of that connection is used. Raises `ServiceUnreachable`,
    `EnrollmentRootWrong`.
    """
    for der in _presented(token, seconds):
        if hmac.compare_digest(hashlib.sha256(der).digest(), token.root_sha256):
            return der
    raise EnrollmentRootWrong(f"{token.address} does not present the root certificate that the token names")


def _presented(token: EnrollmentToken, seconds: float) -> list[bytes]:
    # Unverified on purpose: the token contains the digest of the root.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = token.address.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), seconds) as connection,
            context.wrap_socket(connection, server_hostname=token.server_name) as tls,
        ):
            return _chain_of(tls)
    except (OSError, ValueError) as failure:  # a closed connection, a failed handshake, a name that cannot be encoded
        raise ServiceUnreachable(
            f"no TLS connection to the enrollment listener at {token.address}: {failure}",
            metadata={"service": token.server_name},
        ) from None


def _chain_of(tls: ssl.SSLSocket) -> list[bytes]:
    """Return the certificates that the server presented.

    Python has a public name for this from 3.13 on.
    """
    public = getattr(tls, "get_unverified_chain", None)
    if public is not None:
        return list(public())[:_MAX_CHAIN]
    certificates = tls._sslobj.get_unverified_chain() or []  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in certificates[:_MAX_CHAIN]]


def check_chain(
    token: EnrollmentToken, roots_der: Sequence[bytes], chain_der: Sequence[bytes], key: PrivateKey
) -> None:
    """Check that the certificate is for the key and identity, and leads to a root.

    Raises `EnrollmentServerUnproven`.
    """
    try:
        leaf, *above = (x509.load_der_x509_certificate(der) for der in chain_der)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        last = leaf
        for issuer in above:
            last.verify_directly_issued_by(issuer)
            last = issuer
        roots = [x509.load_der_x509_certificate(der) for der in roots_der]
        last.verify_directly_issued_by(next(root for root in roots if root.subject == last.issuer))
    except (ValueError, TypeError, InvalidSignature, StopIteration, x509.ExtensionNotFound) as failure:
        raise EnrollmentServerUnproven(
            f"the certificate does not lead to a root of the control hierarchy: {failure}"
        ) from None
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise EnrollmentServerUnproven("the certificate is for another key")
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [str(token.identity)]:
        raise EnrollmentServerUnproven("the certificate is for another identity")
