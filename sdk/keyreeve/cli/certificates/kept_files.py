"""Replacing the files of a certificate and its key in the form that they have.

A file keeps its owner, group, mode and POSIX ACL, and links to it lead to the new content. PEM stays PEM and DER stays DER; a
key stays in its encoding, encrypted if it was; a file of several objects keeps them: certificate, chain, key, root, parameters.
"""

import base64
import os
import re
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from keyreeve.cli.supervision.state_directory import read_file
from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE
from keyreeve.request_container import outer_tags

if TYPE_CHECKING:
    from keyreeve.keys import PrivateKey

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----.*?-----END \1-----\n?", re.DOTALL)
_KEY = b"PRIVATE KEY"
_SEQUENCE = b"\x30"
_ACL = "system.posix_acl_access"


def replace_keeping(path: Path, data: bytes, *, private: bool = False) -> None:
    """Replace the file that a path leads to, keeping owner, group, mode and ACL; a `private` one is for its owner alone.

    Raises `FileUnusable`.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        before = target.stat()
        if before.st_nlink > 1:
            _overwrite(target, data, private=private)
            return
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            made = os.fstat(descriptor)
            if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
                os.fchown(descriptor, before.st_uid, before.st_gid)
            _copy_acl(target, descriptor, private=private)
            os.fchmod(descriptor, PRIVATE if private else stat.S_IMODE(before.st_mode))
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(target)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise FileUnusable(f"cannot replace {path}: {problem.strerror}") from problem


def _copy_acl(source: Path, descriptor: int, *, private: bool) -> None:
    """Give a new file the ACL of the one that it replaces, or none, not even the default ACL of its directory."""
    acl = None
    if not private:
        with suppress(OSError):  # it has none, or the file system knows none
            acl = os.getxattr(source, _ACL)
    if acl is not None:
        os.setxattr(descriptor, _ACL, acl)
        return
    with suppress(OSError):
        os.removexattr(descriptor, _ACL)


def _overwrite(path: Path, data: bytes, *, private: bool) -> None:
    """Write into the file itself, so that its other names (hard links) lead to the new content too.

    Not atomic for readers, but one call, which a kill does not split. When the disk is full, the old content is written back.
    """
    before = path.read_bytes()
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if private:
            os.fchmod(descriptor, PRIVATE)
        try:
            _write_whole(descriptor, data)
        except OSError:
            _write_whole(descriptor, before)  # it fits: its blocks are still the file's
            raise
    finally:
        os.close(descriptor)


def _write_whole(descriptor: int, data: bytes) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], written)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)


def contains_key(data: bytes) -> bool:
    """Whether a PEM file contains a private key."""
    return _key_in(data) is not None


def load_private_key(path: Path, password: bytes | None) -> "PrivateKey":
    """Read the private key in a file, in PEM (perhaps beside certificates) or DER. Raises `FileUnusable`."""
    from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

    from keyreeve.keys import PrivateKey

    data = read_file(path)
    block, is_encrypted = _key_in(data), _is_encrypted(data)
    if is_encrypted and password is None:
        raise FileUnusable(f"{path} is encrypted: give its password in a file, --password-file FILE")
    load = load_der_private_key if block is None else load_pem_private_key
    try:
        key = load(data if block is None else block[0], password if is_encrypted else None)
    except (TypeError, ValueError) as problem:
        raise FileUnusable(f"{path} contains no usable private key: {problem}") from None
    if not isinstance(key, PrivateKey):
        raise FileUnusable(f"{path} contains a key of type {type(key).__name__}, which is not certified here")
    return key


def key_in_form(old: bytes, key: "PrivateKey", password: bytes | None) -> bytes:
    """Encode a key as the one in `old` is encoded: PKCS #8, SEC 1 or PKCS #1, in PEM or DER, encrypted if it was."""
    from cryptography.hazmat.primitives import serialization as s

    block = _key_in(old)
    if block is None:
        is_pkcs8 = outer_tags(old)[:1] == _SEQUENCE or outer_tags(old)[1:2] == _SEQUENCE
    else:
        is_pkcs8 = block[1] in {_KEY, b"ENCRYPTED PRIVATE KEY"}
    encryption: s.KeySerializationEncryption = s.NoEncryption()
    if _is_encrypted(old):
        if password is None:
            raise FileUnusable("the key is encrypted: give its password in a file, --password-file FILE")
        encryption = s.BestAvailableEncryption(password)
    return key.private_bytes(
        s.Encoding.DER if block is None else s.Encoding.PEM,
        s.PrivateFormat.PKCS8 if is_pkcs8 else s.PrivateFormat.TraditionalOpenSSL,
        encryption,
    )


def _key_in(data: bytes) -> re.Match[bytes] | None:
    """Find the block of the private key in a PEM file."""
    return next((match for match in _PEM.finditer(data) if _KEY in match[1]), None)


def _is_encrypted(data: bytes) -> bool:
    """Whether the private key in a file is encrypted: the outer tags of PKCS #8 say so in DER (RFC 5958, 3)."""
    block = _key_in(data)
    return outer_tags(data)[:1] == _SEQUENCE if block is None else b"ENCRYPTED" in block[0]


def certificate_in_form(old: bytes, leaf: bytes, chain: Sequence[bytes], key: bytes | None = None) -> bytes:
    """Encode a new certificate as the file `old` has the one before; `key` replaces a key in the same file."""
    from keyreeve.values import to_pem

    if old[:1] == _SEQUENCE:
        return leaf if key is None else key
    blocks = [(match[1], match[0]) for match in _PEM.finditer(old)]
    certificates = [block for label, block in blocks if label == b"CERTIFICATE"]
    with_chain = len([block for block in certificates[1:] if not _is_root(block)]) > 0
    parts: list[bytes] = []
    for label, block in blocks:
        if label == b"CERTIFICATE" and block is certificates[0]:
            parts.append(to_pem([leaf, *(chain if with_chain else ())]).encode())
        elif label == b"CERTIFICATE":
            parts += [block] if _is_root(block) else []
        elif _KEY in label and key is not None:
            parts.append(key)
            key = b""  # a second spelling of the old key goes
        elif _KEY not in label:
            parts.append(block)
    return b"".join(part if not part or part.endswith(b"\n") else part + b"\n" for part in parts)


def _is_root(block: bytes) -> bool:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(base64.b64decode(b"".join(block.splitlines()[1:-1])))
    return certificate.issuer == certificate.subject
