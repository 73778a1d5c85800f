"""Renewal of a certificate in its files.

A crash at any point leaves a pair that works or can be completed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer

from keyreeve.cli.certificates.certificate_files import (
    Folder,
    check_writable,
    read_certificates,
    serial_text,
)
from keyreeve.cli.certificates.forms import FILE_NAMES, WITH_PASSWORD, FileForm, Material, check_form, render
from keyreeve.cli.certificates.kept_files import (
    certificate_in_form,
    contains_key,
    key_in_form,
    load_private_key,
    replace_keeping,
)
from keyreeve.cli.supervision.state_directory import read_file, write_file
from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE, PUBLIC
from keyreeve.renewal_files import lock_pair, next_path

if TYPE_CHECKING:
    from keyreeve import Client, Context
    from keyreeve.keys import PrivateKey
    from keyreeve.values import KeyType, SignedCertificate


_BACKDATED = timedelta(minutes=5)
"""How long before its issuance a certificate's validity begins, unless its profile says otherwise."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The files of a certificate and its key, which may be one file, and of its chain if there is one."""

    certificate: Path
    key: Path
    chain: Path | None
    is_own: bool
    """Whether it is the certificate of the context."""

    @classmethod
    def find(cls, place: Path | None, key: Path | None, context: "Context") -> Self:
        """Find the files of the command's arguments.

        They are the context's certificate, a directory of `cert issue`, a file with `--key`, or a file with both.
        """
        if place is None:
            return cls(context.certificate, context.key, None, is_own=True)
        if place.is_dir():
            folder = Folder(place)
            return cls(folder.certificate, key or folder.key, folder.chain, is_own=False)
        if not place.exists():
            raise FileUnusable(f"{place} does not exist")
        if key is None and contains_key(read_file(place)):
            key = place
        if key is None:
            raise typer.BadParameter("the private key of a certificate file must be named", param_hint="--key")
        if not key.exists():
            raise FileUnusable(f"{key} does not exist")
        is_own = context.certificate.exists() and place.samefile(context.certificate)
        return cls(place, key, None, is_own)

    @property
    def is_combined(self) -> bool:
        """Whether certificate and key are in one file."""
        return self.key.exists() and self.certificate.exists() and self.key.samefile(self.certificate)

    @property
    def next_key(self) -> Path:
        """The new key, until its certificate has been received."""
        return next_path(self.key)

    @property
    def next_certificate(self) -> Path:
        """The new certificate and its chain, until the key is in place; not used for a combined file."""
        return next_path(self.certificate)

    def other_forms(self) -> dict[FileForm, Path]:
        """Return the other forms of `cert issue` in the directory."""
        if self.chain is None:
            return {}
        found = {form: self.chain.parent / name for form, name in FILE_NAMES.items() if form is not FileForm.CHAIN}
        return {form: path for form, path in found.items() if path.exists()}


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


def due_at(pair: Pair) -> datetime:
    """Return when the certificate should be renewed: as the CA spreads it, after two thirds of the time from its issuance."""
    certificate = read_certificates(pair.certificate)[0]
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if end - start > _BACKDATED:
        start += _BACKDATED  # else one of a few minutes would be due when it is issued
    return start + (end - start) * (2 / 3 + (certificate.serial_number & 0xFF) / 2560)


def complete_renewal(pair: Pair, context: "Context", password: bytes | None = None) -> bool:
    """Move a new certificate and its key into place, the key first and the certificate last.

    Returns whether there was one. The other forms of the directory are written in between; `context` has their roots.

    Every step can be repeated after a crash, and none requires the control plane.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    if pair.is_combined:
        if not pair.next_key.exists():
            return False
        new = load_private_key(pair.next_key, password).public_key()
        if load_private_key(pair.key, password).public_key() != new:
            return False
        pair.next_key.unlink()
        return True
    if not pair.next_certificate.exists():
        return False
    if pair.next_key.exists():
        old = read_file(pair.key)
        key = key_in_form(old, load_private_key(pair.next_key, password), password)
        leaf, *chain = (each.public_bytes(Encoding.DER) for each in read_certificates(pair.next_certificate))
        replace_keeping(pair.key, certificate_in_form(old, leaf, chain, key), private=pair.is_own)
        pair.next_key.unlink(missing_ok=True)
    if pair.chain is not None:
        _replace_directory(pair, pair.chain, context, password)
    replace_keeping(pair.certificate, read_file(pair.next_certificate))
    pair.next_certificate.unlink(missing_ok=True)
    return True


def _replace_directory(pair: Pair, chain: Path, context: "Context", password: bytes | None) -> None:
    """Write the chain and the other forms of a directory of `cert issue`, from its new certificate and key."""
    from cryptography.hazmat.primitives.serialization import Encoding

    leaf, *above = read_certificates(pair.next_certificate)
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in above)
    if chain.exists():
        replace_keeping(chain, pem)
    else:
        write_file(chain, pem)
    others = pair.other_forms()
    if not others:
        return
    material = Material(
        leaf.public_bytes(Encoding.DER),
        [certificate.public_bytes(Encoding.DER) for certificate in above],
        _roots(context) if FileForm.ROOT in others else (),
        load_private_key(pair.key, password),
        password,
        _friendly_name(others[FileForm.PKCS12], password) if FileForm.PKCS12 in others else "",
    )
    for form, path in others.items():
        replace_keeping(path, render(form, material))


def _friendly_name(bundle: Path, password: bytes | None) -> str:
    """The name in a PKCS #12 file, by which NSS and Java know its certificate."""
    from cryptography.hazmat.primitives.serialization import pkcs12

    try:
        entry = pkcs12.load_pkcs12(read_file(bundle), password).cert
    except ValueError:
        return ""  # another password than the one that is given now
    return "" if entry is None or entry.friendly_name is None else entry.friendly_name.decode(errors="replace")


def renew_pair(
    client: "Client",
    pair: Pair,
    touch: Callable[[bytes], bytes] | None = None,
    password: bytes | None = None,
) -> "SignedCertificate":
    """Renew the certificate and replace the files.

    The new key is stored before the call: after a lost response the same key asks again and gets the same certificate. The
    old key stays in place until the new certificate is stored too. `touch` signs with a security key, in case the
    operator's invitation has expired. The places of all files are tried before the call.
    """
    from keyreeve.keys import make_csr, make_key

    old = read_certificates(pair.certificate)[0]
    old_key = load_private_key(pair.key, password)
    if old.public_key() != old_key.public_key():
        raise FileUnusable(f"the key in {pair.key} is not that of the certificate in {pair.certificate}")
    others = pair.other_forms()
    for form in others:
        check_form(form, has_key=True, has_password=password is not None or form not in WITH_PASSWORD)
    before = read_file(pair.certificate)
    if contains_key(before) and load_private_key(pair.certificate, password).public_key() != old.public_key():
        raise FileUnusable(f"{pair.certificate} contains the key of another certificate")
    for path in (pair.certificate, pair.key, *(() if pair.chain is None else (pair.chain,)), *others.values()):
        check_writable(path)
    if pair.next_key.exists():
        new_key = load_private_key(pair.next_key, password)
    else:
        new_key = make_key(same_type(old_key))
        write_file(pair.next_key, key_in_form(read_file(pair.key), new_key, password), mode=PRIVATE)
    signed = client.certificates.renew(
        serial_text(old), make_csr(new_key), old_key=None if pair.is_own else old_key, touch=touch
    )
    key = key_in_form(before, new_key, password) if contains_key(before) else None
    renewed = certificate_in_form(before, signed.certificate_der, signed.chain_der, key)
    if pair.is_combined:
        replace_keeping(pair.certificate, renewed)
    else:
        write_file(pair.next_certificate, renewed, mode=PUBLIC if key is None else PRIVATE)
    complete_renewal(pair, client.context, password)
    return signed


def _roots(context: "Context") -> list[bytes]:
    from keyreeve.keys import load_certificates

    return load_certificates(context.estate_bundle)


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
