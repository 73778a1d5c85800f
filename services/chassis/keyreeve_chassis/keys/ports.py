"""The key store port, as the use cases see it.

A key store makes keys, signs with them and seals small secrets. It returns no private key in clear and stores nothing
itself: callers store `SealedKey` values, so a key is destroyed by deleting its sealed form and every copy of it.
"""

from dataclasses import dataclass, field
from typing import Protocol

from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.processes.refusals import StartRefused

_CHECK_KIND = "check"
_CHECK_ID = "key-encryption-key"
_CHECK_TEXT = b"keyreeve"
_TEXT_OF_SEALED_TABLES = b"keyreeve 2"


class KeyStoreError(StartRefused):
    """A key, or the key-encryption key, cannot be used; the service must not start, or must stop."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(f"{message}. {fix}")
        self.message = message
        self.fix = fix
        """What an operator can do about it."""


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A private key as it is stored: sealed, with its public part."""

    key_id: str
    """UUID; the seal is bound to it, so one key's sealed bytes do not open under another's id."""
    key_type: KeyType
    spki: bytes
    """DER SubjectPublicKeyInfo."""
    sealed: bytes = field(repr=False)


class Signer(Protocol):
    """An opened key. Calls are quick, block, and may come from any thread."""

    @property
    def key_type(self) -> KeyType: ...

    @property
    def spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign a message (the bytes of a TBSCertificate) with the algorithm that belongs to the key's type.

        ECDSA signatures are in DER, as certificates and TUF hold them. Raises `KeyStoreError` when the store refuses.
        """
        ...


class KeyStore(Protocol):
    """Makes, opens and uses private keys, and seals other small secrets."""

    def generate(self, key_type: KeyType) -> SealedKey:
        """Make a key. RSA-4096 takes seconds of CPU: call it off the event loop."""
        ...

    def open(self, key: SealedKey) -> Signer:
        """Open a key for signing. Raises `KeyStoreError` when it is not the key of `key.spki`."""
        ...

    def seal(self, kind: str, identifier: str, secret: bytes) -> bytes:
        """Encrypt and authenticate a small secret; it opens under the same `kind` and `identifier` only."""
        ...

    def unseal(self, kind: str, identifier: str, sealed: bytes) -> bytes:
        """Undo `seal`. Raises `KeyStoreError` when anything differs."""
        ...

    def derive(self, label: str) -> bytes:
        """Derive 32 secret bytes from the store and the label: keys of stateless nonces and page tokens."""
        ...


def make_check_value(store: KeyStore, *, sealed_tables: bool = False) -> bytes:
    """Seal a known text. It tells at every start whether the key store is still the same.

    It also tells whether the database has sealed trust tables from its first start on.
    """
    return store.seal(_CHECK_KIND, _CHECK_ID, _TEXT_OF_SEALED_TABLES if sealed_tables else _CHECK_TEXT)


def verify_check_value(store: KeyStore, value: bytes) -> None:
    """Raise `KeyStoreError` unless `value` was made with this key store."""
    try:
        text = store.unseal(_CHECK_KIND, _CHECK_ID, value)
    except KeyStoreError as error:
        raise KeyStoreError(
            "the key store is not the one that sealed this ledger's keys",
            "Give the service the key-encryption key that belongs to this database, or the database that belongs to it",
        ) from error
    if text not in (_CHECK_TEXT, _TEXT_OF_SEALED_TABLES):
        raise KeyStoreError("the key store's check value holds something else", "Restore the ledger from a backup")


def sealed_from_start(store: KeyStore, value: bytes) -> bool:
    """Whether a database with this check value has had sealed trust tables since its first start."""
    return store.unseal(_CHECK_KIND, _CHECK_ID, value) == _TEXT_OF_SEALED_TABLES
