"""Files of a server: stored, renamed, replaced, assigned and opened, each inside the caller's transaction."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from keyreeve import errors
from keyreeve.plaintext import Plaintext
from keyreeve_credentials.entries.service import Alarm, Sealing
from keyreeve_credentials.key_documents.contents import MOST_BYTES, holds_private_key
from keyreeve_credentials.key_files.ports import CONTENTS, MOST_FILES, KeyFileTransaction, Space, StoredFile
from keyreeve_credentials.key_files.replacing import replace_files, used_with
from keyreeve_credentials.keys.envelope import DoesNotOpen, Place


@dataclass(frozen=True, slots=True)
class Overwriting:
    """Whether files may be replaced."""

    replace: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What a write left behind."""

    files: tuple[StoredFile, ...]
    kept: tuple[StoredFile, ...] = ()
    """Replaced files under their new names."""
    moved: tuple[str, ...] = ()
    """Resource names under which files were before they got others."""


@dataclass(frozen=True)
class KeyFiles:
    """The use cases on files."""

    vault: Sealing
    now: Callable[[], int]
    alarm: Alarm
    new_uid: Callable[[], str] = lambda: secrets.token_hex(16)

    def write(
        self, tx: KeyFileTransaction, space: Space, contents: Mapping[str, Plaintext], overwriting: Overwriting
    ) -> Written:
        """Store files by name; what they replace is kept under restorable names.

        Raises `KeyFileExists`, `KeyFileInUse`, `KeyFilesTooMany`, `KeyFileTooLarge`.
        """
        for name, data in contents.items():
            if len(data) > MOST_BYTES:
                raise errors.KeyFileTooLarge(f"{name} has {len(data)} bytes; a file has at most {MOST_BYTES}")
        existing, uses = tx.key_files.names(space), tx.key_files.uses(space)
        moved = replace_files(contents, existing, uses, replace=overwriting.replace, force=overwriting.force).kept
        if len(existing) + len(contents) > MOST_FILES:
            raise errors.KeyFilesTooMany(f"the server {space.server} has {len(existing)} files")
        kept = tuple(self._move(tx, self.get(tx, space, name), new) for name, new in moved.items())
        added = tuple(self._add(tx, space, name, data) for name, data in contents.items())
        return Written(added, kept, tuple(f"{space.name}/files/{name}" for name in moved))

    def get(self, tx: KeyFileTransaction, space: Space, name: str) -> StoredFile:
        """Return a file. Raises `KeyFileNotFound`."""
        found = tx.key_files.get(space, name)
        if found is None:
            raise errors.KeyFileNotFound(f"the server {space.server} of the array {space.array_id} has no file {name}")
        return found

    def open(self, stored: StoredFile) -> Plaintext:
        """Decrypt a file. Raises `KeyFileDamaged`, with an alarm, and `VaultKeyUnavailable`."""
        try:
            return self.vault.open(self._place(stored), stored.sealed)[CONTENTS]
        except DoesNotOpen:
            self.alarm(stored.resource_name, "it does not open at its place")
            raise errors.KeyFileDamaged(f"{stored.resource_name} is damaged or has been tampered with") from None
        except errors.VaultKeyUnavailable:
            self.alarm(stored.resource_name, f"its key {stored.sealed.kek_id} cannot be used for this array")
            raise

    def read(self, tx: KeyFileTransaction, space: Space, name: str) -> bytes:
        """Return the contents of a file. Raises as `get` and `open`."""
        return self.open(self.get(tx, space, name)).reveal()

    def set_contents(self, tx: KeyFileTransaction, stored: StoredFile, data: Plaintext) -> StoredFile:
        """Replace the contents of a file where it is. Raises `KeyFileExists` when it was changed meanwhile."""
        return self._store(
            tx, replace(stored, size=len(data), holds_private_key=holds_private_key(data.reveal())), data
        )

    def rename(
        self, tx: KeyFileTransaction, space: Space, name: str, new_name: str, overwriting: Overwriting
    ) -> Written:
        """Rename a file; assignments stay with the name. Raises `KeyFileNotFound`, `KeyFileExists`, `KeyFileInUse`."""
        found, uses = self.get(tx, space, name), tx.key_files.uses(space)
        if name == new_name:
            return Written((found,))
        if not overwriting.force:
            _refuse_in_use(name, uses, "renamed")
        existing = tx.key_files.names(space)
        moved = replace_files({new_name}, existing, uses, replace=overwriting.replace, force=overwriting.force).kept
        kept = tuple(self._move(tx, self.get(tx, space, old), new) for old, new in moved.items())
        renamed = self._move(tx, self.get(tx, space, name), new_name)
        return Written((renamed,), kept, tuple(f"{space.name}/files/{old}" for old in (*moved, name)))

    def delete(self, tx: KeyFileTransaction, space: Space, name: str, *, force: bool) -> None:
        """Delete a file. Raises `KeyFileNotFound`, `KeyFileInUse`."""
        if not force:
            _refuse_in_use(name, tx.key_files.uses(space), "deleted")
        if not tx.key_files.delete(space, name):
            raise errors.KeyFileNotFound(f"the server {space.server} of the array {space.array_id} has no file {name}")

    def assign(
        self, tx: KeyFileTransaction, space: Space, service: str, names: Sequence[str]
    ) -> tuple[StoredFile, ...]:
        """Record which files a service uses. Raises `KeyFileNotFound`."""
        found = tuple(self.get(tx, space, name) for name in dict.fromkeys(names))
        tx.key_files.assign(space, service, names)
        return found

    def _add(self, tx: KeyFileTransaction, space: Space, name: str, data: Plaintext) -> StoredFile:
        uid, now = self.new_uid(), self.now()
        place = self.vault.place(space.array_id, uid, space.server, name, 1)
        sealed = self.vault.seal(tx, place, {CONTENTS: data})
        key = holds_private_key(data.reveal())
        made = StoredFile(space, uid, name, len(data), key, 1, 1, now, now, sealed)
        tx.key_files.add(made)
        return made

    def _move(self, tx: KeyFileTransaction, stored: StoredFile, name: str) -> StoredFile:
        """Give a file another name: its place changes, so it is encrypted anew."""
        return self._store(tx, replace(stored, name=name), self.open(stored))

    def _store(self, tx: KeyFileTransaction, changed: StoredFile, data: Plaintext) -> StoredFile:
        moved = replace(changed, version=changed.version + 1, encryption=changed.encryption + 1, updated_at=self.now())
        sealed = replace(moved, sealed=self.vault.seal(tx, self._place(moved), {CONTENTS: data}))
        if not tx.key_files.replace(sealed, encryption=changed.encryption):
            raise errors.KeyFileExists(f"the file {changed.name} has been changed meanwhile")
        return sealed

    def _place(self, stored: StoredFile) -> Place:
        space = stored.space
        return self.vault.place(space.array_id, stored.file_uid, space.server, stored.name, stored.encryption)


def _refuse_in_use(name: str, uses: Mapping[str, Sequence[str]], action: str) -> None:
    """Raise `KeyFileInUse` for a file that a service uses, and for the key of a certificate that one uses."""
    for used in [name] if name in uses else used_with([name], uses):
        its = "it" if used == name else f"its certificate {used}"
        raise errors.KeyFileInUse(f"the file {name} is not {action}: {', '.join(uses[used])} uses {its}")
