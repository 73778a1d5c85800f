"""The SSH host key: Ed25519, derived from the service's key-encryption key, so the same in every replica and stored nowhere."""

import base64
import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyreeve.length_prefix import length_prefixed

ALGORITHM = "ssh-ed25519"
KEY_LABEL = "ssh host key 1"
"""Another label is another host key, which every SSH client would have to learn."""


class SshHostKey:
    """The host key in this process."""

    def __init__(self, derive: Callable[[str], bytes]) -> None:
        """Take what derives 32 secret octets from a label (`KeyStore.derive`)."""
        self._key = Ed25519PrivateKey.from_private_bytes(derive(KEY_LABEL))
        point = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.public_key = length_prefixed(ALGORITHM.encode(), point)
        """As SSH sends it."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint, as `ssh-keygen -l` shows it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.public_key).digest()).decode().rstrip("=")

    def sign(self, exchange_hash: bytes) -> bytes:
        """Sign an exchange hash; the signature as SSH sends it."""
        return length_prefixed(ALGORITHM.encode(), self._key.sign(exchange_hash))
