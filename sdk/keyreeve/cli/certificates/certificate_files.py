"""Files of certificates, keys and CSRs, and the directory of `cert issue`."""

import errno
import fcntl
import os
import re
import secrets
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyreeve.cli.supervision.state_directory import read_file, write_file
from keyreeve.errors import FileUnusable, KeyreeveError
from keyreeve.files import PUBLIC, write_atomically

if TYPE_CHECKING:
    from cryptography import x509

    from keyreeve.keys import PrivateKey
    from keyreeve.values import SignedCertificate

STANDARD_STREAM = Path("-")
LARGEST_INPUT = 1_000_000
"""Bytes; far more than any CSR or certificate file."""

_PROBE_BYTES = 64 * 1024
"""More than a key, a certificate and its chain take."""
_FULL_DEVICE = os.makedev(1, 7)
"""`/dev/full`."""

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

    @contextmanager
    def tried(self, others: Iterable[Path] = ()) -> Iterator[None]:
        """Create the directory and try to write each of its files, and `others`; what was created is removed when the body fails.

        Raises `FileUnusable`.
        """
        missing = [each for each in (self.path, *self.path.parents) if not each.exists()]
        try:
            try:
                for each in reversed(missing):  # whatever the umask is: others must not put files beside the key
                    each.mkdir(mode=0o755, exist_ok=True)
                if missing:
                    self.path.chmod(0o755)
            except OSError as problem:
                raise FileUnusable(f"cannot create {self.path}: {problem.strerror}") from problem
            for each in (self.key, self.certificate, self.chain, *others):
                check_writable(each)
            yield
        except BaseException:
            for each in missing:
                with suppress(OSError):
                    each.rmdir()
            raise

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
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes, *, mode: int = PUBLIC) -> None:
    """Write a file, or standard output for `-`. Raises `FileUnusable`."""
    if path != STANDARD_STREAM:
        write_file(path, data, mode=mode)
        return
    try:
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None:
            sys.stdout.write(data.decode())
        else:
            sys.stdout.flush()
            buffer.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise FileUnusable(f"cannot write standard output: {problem.strerror}") from problem


def check_writable(path: Path) -> None:
    """Try the place of an output before there is one, with a file of its size.

    Nothing is issued for an output that cannot be written. Raises `FileUnusable`.
    """
    if path == STANDARD_STREAM:
        _check_standard_output()
        return
    if path.is_dir():
        raise FileUnusable(f"cannot write {path}: it is a directory")
    target = path.resolve()
    probe = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        write_atomically(probe, bytes(_PROBE_BYTES))
        probe.unlink()
    except OSError as problem:
        raise FileUnusable(f"cannot write {path}: {problem.strerror}") from problem
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _check_standard_output() -> None:
    """Refuse a standard output that is closed, or a device or file on a full disk."""
    try:
        descriptor = sys.stdout.fileno()
        mode = os.fstat(descriptor).st_mode
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:  # the caller has closed it
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))  # noqa: TRY301  # as writing to it says
        if stat.S_ISREG(mode):
            at = os.lseek(descriptor, 0, os.SEEK_CUR)
            os.posix_fallocate(descriptor, at, _PROBE_BYTES)
            os.ftruncate(descriptor, at)
        elif stat.S_ISFIFO(mode):
            watched = select.poll()
            watched.register(descriptor, 0)  # POLLERR, which is always told: the reader has ended
            if watched.poll(0):
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))  # noqa: TRY301  # as writing to it says
        elif stat.S_ISCHR(mode) and os.fstat(descriptor).st_rdev == _FULL_DEVICE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301  # as writing to it says
    except (OSError, ValueError, AttributeError) as problem:
        if isinstance(problem, OSError) and problem.errno in {
            errno.ENOSPC,
            errno.EBADF,
            errno.EDQUOT,
            errno.EROFS,
            errno.EPIPE,
        }:
            raise FileUnusable(f"cannot write standard output: {problem.strerror}") from None


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


def read_password(path: Path) -> bytes:
    """Read a password from the first line of a file. Raises `FileUnusable`."""
    lines = read_input(path).splitlines()
    if not lines or not lines[0]:
        raise FileUnusable(f"{path} contains no password in its first line")
    return lines[0]


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


def text_of(text: str) -> str:
    """Escape what a terminal would interpret."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def readable(read: Callable[[], Any]) -> Any:  # noqa: ANN401  # what it reads, or why it cannot
    """Read a part of a certificate, or tell in one line why it cannot be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return read()
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.ExtensionNotFound,
        x509.UnsupportedGeneralNameType,
    ) as problem:
        return f"cannot be read: {text_of(str(problem).splitlines()[0][:200])}"


def first_name(certificate: "x509.Certificate") -> str:
    """Return the subject of a certificate, or its first name if that is empty."""
    subject = readable(certificate.subject.rfc4514_string)
    return text_of(subject) or next(iter(names_of(certificate)), "(no name)")


def names_of(certificate: "x509.Certificate") -> list[str]:
    """Return the subject alternative names, each as `type:value`, or why they cannot be read."""
    found = readable(lambda: names_in(certificate.extensions))
    return found if isinstance(found, list) else [found]


def names_in(extensions: "x509.Extensions") -> list[str]:
    """Return the names in the extensions of a certificate or request, each as `type:value`."""
    from cryptography import x509

    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [_name_text(name) for name in names]


def describe(certificate: "x509.Certificate") -> dict[str, Any]:
    """Return the contents of a certificate as plain values.

    A part that cannot be read says why.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    def extension(kind: type[Any]) -> Any:  # noqa: ANN401 (a value of that kind, or None)
        try:
            return certificate.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    def spki_sha256() -> str:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        return digest.finalize().hex()

    def is_ca() -> bool:
        basic = extension(x509.BasicConstraints)
        return bool(basic and basic.ca)

    return {
        "subject": readable(lambda: text_of(certificate.subject.rfc4514_string()) or "(empty)"),
        "names": readable(lambda: names_in(certificate.extensions)),
        "serial": serial_text(certificate),
        "issuer": readable(lambda: text_of(certificate.issuer.rfc4514_string())),
        "not_before": readable(certificate.not_valid_before_utc.isoformat),
        "not_after": readable(certificate.not_valid_after_utc.isoformat),
        "ca": readable(is_ca),
        "key": readable(lambda: key_text(certificate.public_key())),
        "usages": readable(lambda: [usage._name for usage in extension(x509.ExtendedKeyUsage) or ()]),  # noqa: SLF001
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "spki_sha256": readable(spki_sha256),
    }


def _name_text(name: "x509.GeneralName") -> str:
    from cryptography import x509

    kinds = {x509.DNSName: "dns", x509.IPAddress: "ip", x509.UniformResourceIdentifier: "uri", x509.RFC822Name: "email"}
    return text_of(f"{kinds.get(type(name), type(name).__name__)}:{name.value}")


def key_text(key: object) -> str:
    """Return the type and size of a public key."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    match key:
        case ec.EllipticCurvePublicKey():
            return f"ECDSA {key.curve.name}"
        case rsa.RSAPublicKey():
            return f"RSA {key.key_size}"
    return type(key).__name__.removesuffix("PublicKey")
