"""The key store as the service uses it: a failpoint on each side of every signature."""

from dataclasses import dataclass

from keyreeve_ca.profiles.profile import KeyType
from keyreeve_chassis.keys.ports import KeyStore, SealedKey, Signer
from keyreeve_chassis.processes import failpoints

BEFORE = failpoints.register("ca.sign.before", "The serial number is on disk, and no signature with it exists.")
AFTER = failpoints.register("ca.sign.after", "The signature exists in this process, and nothing of it is stored.")


@dataclass(frozen=True)
class WatchedKeyStore:
    """A `KeyStore` whose signers pass through the failpoints."""

    inner: KeyStore

    def generate(self, key_type: KeyType) -> SealedKey:
        """See `KeyStore.generate`."""
        return self.inner.generate(key_type)

    def open(self, key: SealedKey) -> Signer:
        """See `KeyStore.open`."""
        return _WatchedSigner(self.inner.open(key))

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
class _WatchedSigner:
    inner: Signer

    @property
    def key_type(self) -> KeyType:
        return self.inner.key_type

    @property
    def spki(self) -> bytes:
        return self.inner.spki

    def sign(self, message: bytes) -> bytes:
        failpoints.hit(BEFORE)
        signature = self.inner.sign(message)
        failpoints.hit(AFTER)
        return signature
