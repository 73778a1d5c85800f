"""Files of certificates, keys and CSRs, and the directory of `cert issue`."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyreeve.cli.supervision.state_directory import read_file, write_file
from keyreeve.errors import FileUnusable, KeyreeveError

if TYPE_CHECKING:
    from cryptography import x509

    from keyreeve.keys import PrivateKey
    from keyreeve.values import SignedCertificate

STANDARD_STREAM = Path("-")
LARGEST_INPUT = 1_000_000
"""Bytes; far more than any CSR or certificate file."""

_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9][A-Z0-9 ]{0,60})-----")


@dataclass(frozen=True, slots=True)
class Folder:
    """The directory of one certificate: key, certificate with chain, chain.

    certificate.pem contains the leaf first.
    """

    path: Path

    @property
    def key(self) -> Path:
        return self.path / "key.pem"

    @property
    def certificate(self) -> Path:
        return self.path / "certificate.pem"

    @property
    def chain(self) -> Path:
        return self.path / "chain.pem"

    def make(self) -> None:
        """Create the directory. Raises `FileUnusable`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise FileUnusable(f"cannot create {self.path}: {problem.strerror}") from problem

    def save(self, signed: "SignedCertificate") -> None:
        """Write the certificate and its chain. Raises `FileUnusable`."""
        from keyreeve.values import to_pem

        write_file(self.chain, to_pem(signed.chain_der).encode())
        write_file(self.certificate, signed.pem().encode())


def read_input(path: Path) -> bytes:
    """Read a file, or standard input for `-`. Raises `FileUnusable`."""
    limit = LARGEST_INPUT + 1  # the file may be a device or a pipe without an end
    data = sys.stdin.buffer.read(limit) if path == STANDARD_STREAM else read_file(path, limit)
    if len(data) > LARGEST_INPUT:
        raise FileUnusable(f"{path} is larger than {LARGEST_INPUT:,} bytes")
    return data


def read_sendable(path: Path) -> bytes:
    """Read a file that a command sends. Raises `FileUnusable`, also when it is a private key."""
    from keyreeve.request_container import is_private_key

    data = read_input(path)
    if is_private_key(data):
        raise FileUnusable(f"{path} contains a private key, which must not be sent; nothing has been sent")
    return data


def read_request(path: Path) -> bytes:
    """Read a certificate request as DER. Raises `FileUnusable`, `CsrMalformed` (it names what the file is)."""
    from keyreeve.errors import CsrMalformed
    from keyreeve.request_container import request_der

    data = read_input(path)
    try:
        return request_der(data)
    except CsrMalformed as problem:
        raise CsrMalformed(f"{path}: {problem.message}; nothing has been sent") from None


def write_output(path: Path, text: str) -> None:
    """Write a file, or standard output for `-`. Raises `FileUnusable`."""
    if path == STANDARD_STREAM:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_file(path, text.encode())


def read_certificates(path: Path) -> "list[x509.Certificate]":
    """Read the certificates of a PEM file, or the one of a DER file.

    Raises `FileUnusable`.
    """
    from cryptography import x509

    data = read_input(path)
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as problem:
        labels = dict.fromkeys(label.decode() for label in _PEM_LABEL.findall(data))
        if labels and "CERTIFICATE" not in labels:
            raise FileUnusable(f"{path} contains no certificate, but {', '.join(labels)}") from None
        raise FileUnusable(f"{path} contains no certificate: {problem}") from None


def save_private_key(path: Path, key: "PrivateKey") -> None:
    """Write a private key that only its owner may read. Raises `FileUnusable`."""
    from keyreeve.keys import save_key

    try:
        save_key(path, key)
    except OSError as problem:
        raise FileUnusable(f"cannot write {path}: {problem.strerror}") from problem


def read_private_key(path: Path) -> "PrivateKey":
    """Read a private key. Raises `FileUnusable`."""
    from keyreeve.keys import parse_key

    try:
        return parse_key(read_file(path))
    except (ValueError, KeyreeveError) as problem:
        raise FileUnusable(f"{path} contains no usable private key: {problem}") from None


def serial_text(certificate: "x509.Certificate") -> str:
    """Return the serial number as in the ledger: 32 lower-case hexadecimal digits."""
    return f"{certificate.serial_number:032x}"


def first_name(certificate: "x509.Certificate") -> str:
    """Return the subject of a certificate, or its first name if that is empty."""
    if subject := certificate.subject.rfc4514_string():
        return subject
    return next(iter(names_of(certificate)), "(no name)")


def names_of(certificate: "x509.Certificate") -> list[str]:
    """Return the subject alternative names, each as `type:value`."""
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_name_text(name) for name in names]


def describe(certificate: "x509.Certificate") -> dict[str, Any]:
    """Return the contents of a certificate as plain values."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def extension(kind: type[Any]) -> Any:  # noqa: ANN401 (a value of that kind, or None)
        try:
            return certificate.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    usages = extension(x509.ExtendedKeyUsage)
    basic = extension(x509.BasicConstraints)
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    return {
        "subject": certificate.subject.rfc4514_string() or "(empty)",
        "names": names_of(certificate),
        "serial": serial_text(certificate),
        "issuer": certificate.issuer.rfc4514_string(),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "ca": bool(basic and basic.ca),
        "key": _key_text(certificate.public_key()),
        "usages": [usage._name for usage in usages or ()],  # noqa: SLF001 (the only readable name that it has)
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "spki_sha256": digest.finalize().hex(),
    }


def _name_text(name: "x509.GeneralName") -> str:
    from cryptography import x509

    kinds = {x509.DNSName: "dns", x509.IPAddress: "ip", x509.UniformResourceIdentifier: "uri", x509.RFC822Name: "email"}
    return f"{kinds.get(type(name), type(name).__name__)}:{name.value}"


def _key_text(key: object) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    match key:
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey")
