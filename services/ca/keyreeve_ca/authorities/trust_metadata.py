"""The beginning of the trust metadata (The Update Framework, version 1): its keys and its first root.

News about CA keys is never signed by CA keys. The root role belongs to recovery keys, which are kept away from the
service; the online keys of the other three roles lie in the key store. The root's expiry bounds for how long a member
may sleep and still be safe from a network that replays old metadata to it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
    load_pem_private_key,
)

# Both packages document these names without listing them for type checkers.
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

from keyreeve_ca.authorities.bootstrap import FirstTrustMetadata
from keyreeve_chassis.keys.files import create_private_file, read_mounted_file, read_private_file
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import KeyStore, KeyStoreError

ROOT_LIFETIME = timedelta(days=90)
ONLINE_ROLES = ("targets", "snapshot", "timestamp")
_WHAT = "the recovery key"
_MAX_PEM_BYTES = 16_384


def first(recovery_key_file: Path, keystore: KeyStore, now: int, *, mounted: bool = False) -> FirstTrustMetadata:
    """Create what a new control plane needs: `root.json` version 1 and the keys of `ONLINE_ROLES`, in that order.

    One recovery key signs `root.json`. It is created in `recovery_key_file`, or read from it when an earlier start was
    interrupted. `now` is in seconds since 1970. Raises `KeyStoreError` when the file cannot be created or read, and where it is
    `mounted` and missing: a recovery key that the service itself would have to keep is none.
    """
    if mounted:
        if not recovery_key_file.exists():
            raise KeyStoreError(
                f"{_WHAT} {recovery_key_file} is missing, which signs the first root of the trust metadata",
                "Make one (openssl genpkey -algorithm ed25519), mount it for the first start, and keep it offline after it",
            )
    elif not recovery_key_file.exists():
        create_recovery_key_file(recovery_key_file)
    recovery = read_recovery_key_file(recovery_key_file, mounted=mounted)
    online = tuple(keystore.generate(KeyType.ED25519) for _ in ONLINE_ROLES)
    return FirstTrustMetadata(first_root([recovery], [key.spki for key in online], now, threshold=1), online)


def first_root(recovery: Sequence[Signer], online_spkis: Sequence[bytes], now: int, *, threshold: int) -> bytes:
    """Sign `root.json` version 1: `threshold` of the recovery keys for the root role, one online key for each other role."""
    root = Root(version=1, expires=datetime.fromtimestamp(now, UTC) + ROOT_LIFETIME, consistent_snapshot=True)
    for signer in recovery:
        root.add_key(signer.public_key, Root.type)
    for role, spki in zip(ONLINE_ROLES, online_spkis, strict=True):
        root.add_key(SSlibKey.from_crypto(load_der_public_key(spki)), role)
    root.roles[Root.type].threshold = threshold
    metadata = Metadata(root)
    for signer in recovery:
        metadata.sign(signer, append=True)
    root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    return metadata.to_bytes()


def create_recovery_key_file(path: Path) -> None:
    """Create an Ed25519 key in a new PEM file of mode 0600.

    The holder of this key decides which roots members trust: move it offline.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    create_private_file(path, pem, _WHAT)


def read_recovery_key_file(path: Path, *, mounted: bool = False) -> Signer:
    """Open a recovery key.

    Raises `KeyStoreError` when other users can access the file or it holds no signing key.
    """
    pem = (read_mounted_file if mounted else read_private_file)(path, _MAX_PEM_BYTES, _WHAT)
    try:
        return CryptoSigner(load_pem_private_key(pem, password=None))
    except (TypeError, ValueError) as error:
        raise KeyStoreError(
            f"{_WHAT} {path} does not hold an unencrypted private key in PEM", "Restore it from where it is kept"
        ) from error
