"""The root provider on a directory: a root key, and one deletable file for each key-encryption key.

    root                 32 random octets, mode 0600
    {kek_id}.kek         the key, sealed under the root key (keyreeve_chassis.keys.sealed), bound to its array and id
    {kek_id}.destroyed   empty: this id is used up

Replicas share the directory. Files are created whole or not at all (`create_private_file`), and their deletion is synced, so
that a copy of the database and of its WAL opens nothing once a key's file is gone.
"""

import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyreeve.errors import VaultKeyUnavailable
from keyreeve_chassis.keys.files import create_private_file, read_private_file
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_chassis.keys.sealed import KEK_BYTES, SealedKeyStore
from keyreeve_chassis.processes import failpoints
from keyreeve_credentials.keys.ports import OpenKek

_LABEL: Final = "keyreeve-vault-root"
_KIND: Final = "kek"
_MOST_BYTES: Final = 4_096
_ID = re.compile(r"[0-9a-f]{32}\Z")

CREATED = failpoints.register(
    "credentials.kek.created", "A key-encryption key is in the root provider and has no record yet."
)
UNLINKED = failpoints.register(
    "credentials.kek.unlinked", "A key-encryption key's file is gone and nothing says so yet."
)


@dataclass(frozen=True)
class RootFiles:
    """A `RootProvider` on a directory."""

    directory: Path
    _store: SealedKeyStore

    def create(self, array_id: str, kek_id: str) -> None:
        """See `RootProvider.create`."""
        file = self._file(kek_id)
        if self._tombstone(kek_id).exists():
            raise VaultKeyUnavailable(f"the key {kek_id} has been destroyed; its id is not used again")
        sealed = self._store.seal(_KIND, f"{array_id}/{kek_id}", os.urandom(KEK_BYTES))
        try:
            create_private_file(file, sealed, "the key-encryption key")
        except (KeyStoreError, OSError) as error:
            raise VaultKeyUnavailable(f"a key-encryption key cannot be made: {error}") from error
        failpoints.hit(CREATED)

    def open(self, array_id: str, kek_id: str) -> OpenKek:
        """See `RootProvider.open`."""
        file = self._file(kek_id)
        if self._tombstone(kek_id).exists():
            raise VaultKeyUnavailable(f"the key {kek_id} has been destroyed", metadata={"key": kek_id})
        try:
            sealed = read_private_file(file, _MOST_BYTES, "the key-encryption key")
            return AESGCM(self._store.unseal(_KIND, f"{array_id}/{kek_id}", sealed))
        except (KeyStoreError, ValueError) as error:
            raise VaultKeyUnavailable(
                f"the key {kek_id} of {array_id} does not open: its file {file.name} is missing or damaged, or the root "
                "key is not the one that sealed it",
                metadata={"key": kek_id},
            ) from error

    def list(self) -> Sequence[str]:
        """See `RootProvider.list`."""
        try:
            return sorted(path.stem for path in self.directory.glob("*.kek") if _ID.match(path.stem))
        except OSError as error:
            raise VaultKeyUnavailable(f"{self.directory} cannot be read: {error.strerror}") from error

    def destroy(self, kek_id: str) -> None:
        """See `RootProvider.destroy`."""
        file = self._file(kek_id)
        try:
            if file.exists():
                _overwrite(file)
                file.unlink()
                _sync(self.directory)
            failpoints.hit(UNLINKED)
            self._tombstone(kek_id).touch(mode=0o600)
            _sync(self.directory)
        except OSError as error:
            raise VaultKeyUnavailable(f"the key {kek_id} cannot be destroyed: {error.strerror}") from error

    def confirm(self, kek_id: str) -> bool:
        """See `RootProvider.confirm`."""
        try:
            return not self._file(kek_id).exists() and self._tombstone(kek_id).exists()
        except OSError as error:
            raise VaultKeyUnavailable(f"{self.directory} cannot be read: {error.strerror}") from error

    def _file(self, kek_id: str) -> Path:
        if not _ID.match(kek_id):
            raise VaultKeyUnavailable("a key-encryption key's id is 32 hexadecimal digits")
        return self.directory / f"{kek_id}.kek"

    def _tombstone(self, kek_id: str) -> Path:
        return self.directory / f"{kek_id}.destroyed"


def open_root_files(directory: Path, *, first_start: bool) -> RootFiles:
    """Open the provider; a `first_start`, of a vault without any key, makes the directory and the root key.

    Raises `KeyStoreError`, with what to do: a root key is never made where keys are known.
    """
    root = directory / "root"
    if first_start and not root.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.glob("*.kek")):
            raise KeyStoreError(
                f"{directory} has key-encryption keys and no root key", "Restore the file `root` from where it is kept"
            )
        try:
            create_private_file(root, os.urandom(KEK_BYTES), "the vault's root key")
        except KeyStoreError:
            if not root.exists():  # otherwise another replica was faster
                raise
    key = read_private_file(root, KEK_BYTES + 1, "the vault's root key")
    if len(key) != KEK_BYTES:
        raise KeyStoreError(
            f"the vault's root key {root} does not hold exactly {KEK_BYTES} bytes", "Restore it from where it is kept"
        )
    return RootFiles(directory, SealedKeyStore(key, _LABEL))


def _overwrite(file: Path) -> None:
    """Replace the contents in place; file systems that copy on write keep the old ones for a while."""
    with file.open("r+b") as opened:
        opened.write(secrets.token_bytes(file.stat().st_size))
        opened.flush()
        os.fsync(opened.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
