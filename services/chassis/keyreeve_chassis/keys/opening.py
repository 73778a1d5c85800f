"""Opening a service's key store; the first start creates the key-encryption key."""

import logging
from pathlib import Path

from keyreeve_chassis.keys.sealed import SealedKeyStore, create_kek_file, read_kek_file, read_kek_mount

log = logging.getLogger(__name__)


def open_key_store(file: Path, label: str, *, mounted: bool, first_start: bool) -> SealedKeyStore:
    """Open the key store of a key-encryption key file, which a `first_start` creates.

    A mounted secret is never created. `label` separates what one service seals from what others do. Raises
    `KeyStoreError`.
    """
    if first_start and not mounted and not file.exists():
        create_kek_file(file)
        log.warning("made the key-encryption key %s: keep a copy away from the database's backups", file)
    return SealedKeyStore((read_kek_mount if mounted else read_kek_file)(file), label)
