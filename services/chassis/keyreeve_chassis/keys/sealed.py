"""The default key store: private keys sealed with AES-256-GCM under a key-encryption key that lies in a file.

    sealed = nonce (12 random octets) || AES-256-GCM ciphertext and tag
    AAD    = LP("{label}-sealed-1", kind, identifier)         LP: keyreeve.length_prefix; label: the service's

The key in the file is never used directly: HKDF-SHA256 (RFC 5869) makes one key for sealing and one per `derive` label
from it. Random nonces allow 2^32 seals before a collision becomes thinkable; a ledger makes one per authority and one
per block of 4,096 serial numbers, so that is beyond reach.
"""

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
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

from keyreeve.length_prefix import length_prefixed
from keyreeve_chassis.keys.files import create_private_file, read_mounted_file, read_private_file
from keyreeve_chassis.keys.key_types import HASH, KeyType
from keyreeve_chassis.keys.ports import KeyStore, KeyStoreError, SealedKey, Signer
from keyreeve_chassis.processes import failpoints

KEK_BYTES = 32
_NONCE_BYTES = 12
_WHAT = "the key-encryption key"
_RSA_BITS: Final = {KeyType.RSA2048: 2048, KeyType.RSA3072: 3072, KeyType.RSA4096: 4096}


def create_kek_file(path: Path) -> None:
    """Create a key-encryption key in a new, durable file of mode 0600.

    Raises `KeyStoreError` when the file exists.
    """
    create_private_file(path, os.urandom(KEK_BYTES), _WHAT)


def read_kek_file(path: Path) -> bytes:
    """Read a key-encryption key from a private file. Raises `KeyStoreError`."""
    return _whole(read_private_file(path, KEK_BYTES + 1, _WHAT), path)


def read_kek_mount(path: Path) -> bytes:
    """Read a key-encryption key from a mounted secret, as Kubernetes makes them (see `read_mounted_file`)."""
    return _whole(read_mounted_file(path, KEK_BYTES + 1, _WHAT), path)


def _whole(kek: bytes, path: Path) -> bytes:
    if len(kek) != KEK_BYTES:
        raise KeyStoreError(
            f"{_WHAT} {path} does not hold exactly {KEK_BYTES} bytes",
            "Restore it from where it is kept; it is raw bytes, not text",
        )
    return kek


class SealedKeyStore:
    """A `KeyStore` on a key-encryption key."""

    def __init__(self, kek: bytes, label: str) -> None:
        """Take the key-encryption key, and the label that separates one service's sealed bytes from another's."""
        if len(kek) != KEK_BYTES:
            raise ValueError(f"a key-encryption key has {KEK_BYTES} bytes, not {len(kek)}")
        self._kek = kek
        self._label = label
        self._aead = AESGCM(_hkdf(kek, length_prefixed(f"{label}-sealing-1".encode())))

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
        return nonce + self._aead.encrypt(nonce, secret, self._associated_data(kind, identifier))

    def unseal(self, kind: str, identifier: str, sealed: bytes) -> bytes:
        """See `KeyStore.unseal`."""
        try:
            associated = self._associated_data(kind, identifier)
            return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a nonce
            raise KeyStoreError(
                f"{kind} {identifier} does not open",
                "Either the key-encryption key is not the one that sealed it, or its bytes were changed: restore the right one",
            ) from error

    def derive(self, label: str) -> bytes:
        """See `KeyStore.derive`."""
        return _hkdf(self._kek, length_prefixed(f"{self._label}-derived-1".encode(), label.encode()))

    def _associated_data(self, kind: str, identifier: str) -> bytes:
        return length_prefixed(f"{self._label}-sealed-1".encode(), kind.encode(), identifier.encode())


class _LoadedKey:
    """A `Signer` that holds an OpenSSL private key inside a closure, which nothing prints."""

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


@dataclass(frozen=True)
class FailpointKeyStore:
    """A `KeyStore` whose signers pass through the failpoints."""

    inner: KeyStore
    before: str
    """Name of the registered failpoint that comes before a signature."""
    after: str

    def generate(self, key_type: KeyType) -> SealedKey:
        """See `KeyStore.generate`."""
        return self.inner.generate(key_type)

    def open(self, key: SealedKey) -> Signer:
        """See `KeyStore.open`."""
        return _FailpointSigner(self.inner.open(key), self.before, self.after)

    def seal(self, kind: str, identifier: str, secret: bytes) -> bytes:
        """See `KeyStore.seal`."""
        return self.inner.seal(kind, identifier, secret)

    def unseal(self, kind: str, identifier: str, sealed: bytes) -> bytes:
        """See `KeyStore.unseal`."""
        return self.inner.unseal(kind, identifier, sealed)

    def derive(self, label: str) -> bytes:
        """See `KeyStore.derive`."""
        return self.inner.derive(label)


@dataclass(frozen=True)
class _FailpointSigner:
    inner: Signer
    before: str
    after: str

    @property
    def key_type(self) -> KeyType:
        return self.inner.key_type

    @property
    def spki(self) -> bytes:
        return self.inner.spki

    def sign(self, message: bytes) -> bytes:
        failpoints.hit(self.before)
        signature = self.inner.sign(message)
        failpoints.hit(self.after)
        return signature
