"""Renewal of a certificate in its files.

A crash at any point leaves a pair that works or can be completed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer

from keyreeve.cli.certificates.certificate_files import (
    Folder,
    read_certificates,
    read_private_key,
    save_private_key,
    serial_text,
)
from keyreeve.cli.supervision.state_directory import write_file
from keyreeve.errors import FileUnusable
from keyreeve.renewal_files import lock_pair, next_path

if TYPE_CHECKING:
    from keyreeve import Client, Context
    from keyreeve.keys import PrivateKey
    from keyreeve.values import KeyType, SignedCertificate


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key, and of its chain if there is one."""

    certificate: Path
    key: Path
    chain: Path | None
    is_own: bool
    """Whether it is the certificate of the context."""

    @classmethod
    def find(cls, place: Path | None, key: Path | None, context: "Context") -> Self:
        """Find the files of the command's arguments.

        They are the context's certificate, a directory of `cert issue`, or a file with `--key`.
        """
        if place is None:
            return cls(context.certificate, context.key, None, is_own=True)
        if place.is_dir():
            folder = Folder(place)
            return cls(folder.certificate, key or folder.key, folder.chain, is_own=False)
        if not place.exists():
            raise FileUnusable(f"{place} does not exist")
        if key is None:
            raise typer.BadParameter("the private key of a certificate file must be named", param_hint="--key")
        is_own = context.certificate.exists() and place.samefile(context.certificate)
        return cls(place, key, None, is_own)

    @property
    def next_key(self) -> Path:
        """The new key, until its certificate has been received."""
        return next_path(self.key)

    @property
    def next_certificate(self) -> Path:
        """The new certificate and its chain, until the key is in place."""
        return next_path(self.certificate)


@contextmanager
def locked(pair: Pair) -> Iterator[None]:
    """Lock the pair against other processes.

    Raises `FileUnusable` when its directory cannot be locked.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lock_pair(pair.key, wait=True))
        except OSError as problem:
            raise FileUnusable(f"cannot lock {pair.key.parent}: {problem.strerror}") from problem
        yield


def complete_renewal(pair: Pair) -> bool:
    """Move a new certificate and its key into place, the key first.

    Returns whether there was one.

    Every step can be repeated after a crash, and none requires the control plane.
    """
    if not pair.next_certificate.exists():
        return False
    if pair.next_key.exists():
        _move(pair.next_key, pair.key)
    if pair.chain is not None:
        from cryptography.hazmat.primitives.serialization import Encoding

        above = read_certificates(pair.next_certificate)[1:]
        write_file(pair.chain, b"".join(certificate.public_bytes(Encoding.PEM) for certificate in above))
    _move(pair.next_certificate, pair.certificate)
    return True


def renew_pair(client: "Client", pair: Pair, touch: Callable[[bytes], bytes] | None = None) -> "SignedCertificate":
    """Renew the certificate and replace the files.

    The new key is stored before the call: after a lost response the same key asks again and gets the same certificate. The
    old key stays in place until the new certificate is stored too. `touch` signs with a security key, in case the
    operator's invitation has expired.
    """
    from keyreeve.keys import make_csr, make_key

    old = read_certificates(pair.certificate)[0]
    old_key = read_private_key(pair.key)
    if pair.next_key.exists():
        new_key = read_private_key(pair.next_key)
    else:
        new_key = make_key(same_type(old_key))
        save_private_key(pair.next_key, new_key)
    signed = client.certificates.renew(
        serial_text(old), make_csr(new_key), old_key=None if pair.is_own else old_key, touch=touch
    )
    write_file(pair.next_certificate, signed.pem().encode())
    complete_renewal(pair)
    return signed


def same_type(key: "PrivateKey") -> "KeyType":
    """Return the type of a key.

    Raises `FileUnusable` for a type that cannot be generated here.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    from keyreeve.values import KeyType

    match key:
        case ec.EllipticCurvePrivateKey():
            key_type = f"p{key.curve.key_size}"
        case rsa.RSAPrivateKey():
            key_type = f"rsa{key.key_size}"
        case _:
            key_type = KeyType.ED25519
    try:
        return KeyType(key_type)
    except ValueError:
        raise FileUnusable(
            f"keys of type {key_type} cannot be generated here: create one and a CSR for it, and use `cert sign`"
        ) from None


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError as problem:
        raise FileUnusable(f"cannot replace {target}: {problem.strerror}") from problem
