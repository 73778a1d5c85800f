"""A key store with a failpoint on each side of every signature."""

from dataclasses import dataclass

from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStore, SealedKey, Signer
from keyreeve_chassis.processes import failpoints


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
