"""The default key store: private keys sealed with AES-256-GCM under a key-encryption key that lies in a file.

    sealed = nonce (12 random octets) || AES-256-GCM ciphertext and tag
    AAD    = LP("keyreeve-ca-sealed-1", kind, identifier)     LP: each field after its length as 4 octets, big-endian

The key in the file is never used directly: HKDF-SHA256 (RFC 5869) makes one key for sealing and one per `derive` label
from it. Random nonces allow 2^32 seals before a collision becomes thinkable; a ledger makes one per authority and one
per block of 4,096 serial numbers, so that is beyond reach.
"""

import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from keyreeve_ca.building.algorithms import HASH
from keyreeve_ca.keystore import KeyStoreError, SealedKey, Signer
from keyreeve_ca.rules.profile import KeyType

KEK_BYTES = 32
_NONCE_BYTES = 12
_RSA_BITS: Final = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}


def length_prefixed(*fields: str) -> bytes:
    """LP: each field as its length in 4 octets, big-endian, and its bytes in UTF-8. No two lists give the same bytes."""
    encoded = (field.encode() for field in fields)
    return b"".join(len(field).to_bytes(4, "big") + field for field in encoded)


def create_kek_file(path: Path) -> None:
    """Make a new key-encryption key in a new file of mode 0600, durably; `KeyStoreError` when something is there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileExistsError as error:
        raise KeyStoreError(
            f"{path} exists", "Use it; a key-encryption key is never replaced while keys are sealed under it"
        ) from error
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be made: {error.strerror}", "Make its directory writable") from error
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(os.urandom(KEK_BYTES))
            file.flush()
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_kek_file(path: Path) -> bytes:
    """Read a key-encryption key from a plain file that is ours and that nobody else may touch (mode 0600 or 0400)."""
    return _read_kek(path, os.O_NOFOLLOW, _refuse_unless_private)


def read_kek_mount(path: Path) -> bytes:
    """Read a key-encryption key from a mounted secret.

    Kubernetes mounts secrets as symbolic links to files of root's that a group may read, so links, root and the group's
    reading are allowed here; writing by the group and anything by others are not.
    """
    return _read_kek(path, 0, _refuse_unless_mounted_privately)


def _read_kek(path: Path, flags: int, check: Callable[[Path, os.stat_result], None]) -> bytes:
    try:
        # O_NONBLOCK: a pipe under this name must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"the key-encryption key {path} is missing",
            "Restore it from where it is kept; without it no key of this ledger can be opened",
        ) from error
    except OSError as error:
        why = "is a symbolic link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise KeyStoreError(
            f"the key-encryption key {path} {why}", "Name a plain file that the service can read"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyStoreError(f"the key-encryption key {path} is not a plain file", "Name a plain file")
        check(path, status)
        kek = os.read(descriptor, KEK_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(kek) != KEK_BYTES:
        raise KeyStoreError(
            f"the key-encryption key {path} does not hold exactly {KEK_BYTES} bytes",
            "Restore it from where it is kept; it is raw bytes, not text",
        )
    return kek


def _refuse_unless_private(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise KeyStoreError(
            f"the key-encryption key {path} belongs to user {status.st_uid}, not to {os.geteuid()}",
            f"chown {os.geteuid()} {path}, after asking how it came to be another's",
        )
    if stat.S_IMODE(status.st_mode) & ~0o600:
        raise KeyStoreError(
            f"the key-encryption key {path} has mode {stat.S_IMODE(status.st_mode):04o}",
            f"chmod 600 {path}, and think about who may have read it",
        )


def _refuse_unless_mounted_privately(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        raise KeyStoreError(
            f"the key-encryption key {path} belongs to user {status.st_uid}, neither root nor {os.geteuid()}",
            "Mount the secret as root or as the service's user",
        )
    if stat.S_IMODE(status.st_mode) & ~0o740:
        raise KeyStoreError(
            f"the key-encryption key {path} has mode {stat.S_IMODE(status.st_mode):04o}",
            "Mount the secret with defaultMode 0400 (0440 with an fsGroup)",
        )


class SealedKeyStore:
    """A `KeyStore` whose only secret of its own is the key-encryption key."""

    def __init__(self, kek: bytes) -> None:
        if len(kek) != KEK_BYTES:
            raise ValueError(f"a key-encryption key has {KEK_BYTES} bytes, not {len(kek)}")
        self._kek = kek
        self._aead = AESGCM(_hkdf(kek, length_prefixed("keyreeve-ca-sealing-1")))

    def generate(self, key_type: KeyType) -> SealedKey:
        """See `KeyStore.generate`."""
        key = _new_key(key_type)
        key_id = str(uuid.uuid4())
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return SealedKey(key_id, key_type, public, self.seal("key", key_id, private))

    def open(self, key: SealedKey) -> Signer:
        """See `KeyStore.open`."""
        loaded = load_der_private_key(self.unseal("key", key.key_id, key.sealed), password=None)
        public = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if public != key.spki:
            raise KeyStoreError(
                f"key {key.key_id} is not the one that its ledger row describes",
                "Restore the row from a backup; something has edited it",
            )
        return _LoadedKey(key.key_type, public, _signing_function(loaded, key.key_type))

    def seal(self, kind: str, identifier: str, secret: bytes) -> bytes:
        """See `KeyStore.seal`."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret, _associated_data(kind, identifier))

    def unseal(self, kind: str, identifier: str, sealed: bytes) -> bytes:
        """See `KeyStore.unseal`."""
        try:
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _associated_data(kind, identifier))
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
            raise KeyStoreError(
                f"{kind} {identifier} does not open",
                "Either the key-encryption key is not the one that sealed it, or its bytes were changed: restore the right one",
            ) from error

    def derive(self, label: str) -> bytes:
        """See `KeyStore.derive`."""
        return _hkdf(self._kek, length_prefixed("keyreeve-ca-derived-1", label))


class _LoadedKey:
    """A `Signer` that holds the private key of OpenSSL's, inside a function that nothing prints."""

    __slots__ = ("_key_type", "_sign", "_spki")

    def __init__(self, key_type: KeyType, spki: bytes, sign: Callable[[bytes], bytes]) -> None:
        self._key_type = key_type
        self._spki = spki
        self._sign = sign

    @property
    def key_type(self) -> KeyType:
        return self._key_type

    @property
    def spki(self) -> bytes:
        return self._spki

    def sign(self, message: bytes) -> bytes:
        return self._sign(message)


def _associated_data(kind: str, identifier: str) -> bytes:
    return length_prefixed("keyreeve-ca-sealed-1", kind, identifier)


def _hkdf(kek: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(kek)


def _new_key(key_type: KeyType) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey:
    match key_type:
        case KeyType.P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.P384:
            return ec.generate_private_key(ec.SECP384R1())
        case KeyType.ED25519:
            return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, _RSA_BITS[key_type])


def _signing_function(key: PrivateKeyTypes, key_type: KeyType) -> Callable[[bytes], bytes]:
    algorithm = HASH[key_type]
    match key:
        case ec.EllipticCurvePrivateKey() if algorithm is not None:
            ecdsa = ec.ECDSA(algorithm)
            return lambda message: key.sign(message, ecdsa)
        case rsa.RSAPrivateKey() if algorithm is not None:
            scheme = padding.PKCS1v15()
            return lambda message: key.sign(message, scheme, algorithm)
        case ed25519.Ed25519PrivateKey() if algorithm is None:
            return key.sign
    raise KeyStoreError(f"a {key_type} key is expected and another kind was sealed", "Restore the row from a backup")
