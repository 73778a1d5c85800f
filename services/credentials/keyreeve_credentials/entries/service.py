"""Entries: create, change, delete and open them, each inside the caller's transaction."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from keyreeve import errors
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.entries.names import LDAP, ObjectName
from keyreeve_credentials.entries.ports import Entry, EntryKind, EntrySource, EntryTransaction
from keyreeve_credentials.keys.envelope import DoesNotOpen, Place
from keyreeve_credentials.keys.ports import Kek, KeyTransaction, Sealed

MOST_DELETED = 1_000
"""Entries that one call deletes."""
MOST_USER_NAME = 1_024
MOST_DOMAIN = 255
MOST_SECRET = 4_096
USER_NAME = "user_name"
MISPLACED = "it is found under the names of another owner or resource"


class Sealing(Protocol):
    """Encrypts values in a transaction and opens them (`keys.vault.Vault`)."""

    def place(self, array_id: str, uid: str, owner: str, resource: str, version: int) -> Place: ...
    def seal(self, tx: KeyTransaction, place: Place, fields: Mapping[str, Plaintext]) -> Sealed: ...
    def use_writer(self, tx: KeyTransaction, array_id: str, wraps: int) -> Kek: ...
    def seal_under(self, writer: Kek, place: Place, fields: Mapping[str, Plaintext]) -> Sealed: ...
    def open(self, place: Place, sealed: Sealed) -> dict[str, Plaintext]: ...
    async def make_ready(self, array_id: str, kek_id: str) -> None: ...


Alarm = Callable[[str, str], None]
"""Told of an integrity failure: the name of the row, and what is wrong; never of its contents."""


@dataclass(frozen=True, slots=True)
class EntryValue:
    """What is put into an entry."""

    user_name: str
    kind: EntryKind
    secret: Plaintext = field(repr=False)
    domain: str = ""
    """The Windows domain that a login password is cached with."""

    def check(self) -> None:
        """Raise `FieldInvalid` for a value that no entry holds."""
        if not 0 < len(self.user_name) <= MOST_USER_NAME or not self.user_name.isprintable():
            raise _invalid("entry.user_name", f"1 to {MOST_USER_NAME} printable characters are required")
        if self.kind is EntryKind.PASSWORD and not 0 < len(self.secret) <= MOST_SECRET:
            raise _invalid("secret", f"a password of 1 to {MOST_SECRET} bytes is required")
        if self.kind is not EntryKind.PASSWORD and self.secret:
            raise _invalid("secret", "an entry of this kind has no secret")
        if len(self.domain) > MOST_DOMAIN or not self.domain.isprintable():
            raise _invalid("entry.domain", f"at most {MOST_DOMAIN} printable characters")


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that is to be created."""

    owner: ObjectName
    resource: ObjectName
    value: EntryValue

    def check(self) -> None:
        """Raise `FieldInvalid` for an entry that cannot be."""
        self.value.check()
        if self.owner.text == LDAP and self.resource.text:
            raise _invalid("entry.resource", "the entry of `ldap` has no resource")
        if self.value.domain and self.resource.text:
            raise _invalid("entry.domain", "a domain belongs to a login password, which has no resource")


@dataclass(frozen=True)
class Entries:
    """The use cases."""

    vault: Sealing
    now: Callable[[], int]
    alarm: Alarm
    new_uid: Callable[[], str] = lambda: secrets.token_hex(16)

    def create(
        self,
        tx: EntryTransaction,
        array_id: str,
        owner: ObjectName,
        resource: ObjectName,
        value: EntryValue,
        *,
        source: EntrySource = EntrySource.CALL,
    ) -> Entry:
        """Create an entry. Raises `EntryExists`, `FieldInvalid`, `VaultKeyUnavailable`."""
        new = NewEntry(owner, resource, value)
        new.check()
        known = tx.entries.find(array_id, owner, resource)
        if known is not None:
            self.check_place(known)
            raise errors.EntryExists(
                f"{array_id} has an entry of {owner} for {resource.text or 'the login'}", metadata={"entry": known.name}
            )
        made = self._sealed(self.vault.use_writer(tx, array_id, 1), array_id, new, source)
        if not tx.entries.add(made):
            raise errors.EntryExists(f"{array_id} has an entry of {owner} for {resource.text or 'the login'}")
        return made

    def create_all(
        self, tx: EntryTransaction, array_id: str, new: Sequence[NewEntry], *, source: EntrySource
    ) -> list[Entry]:
        """Create entries that have been checked, none of which exists. Raises `VaultKeyUnavailable`."""
        if not new:
            return []
        writer = self.vault.use_writer(tx, array_id, len(new))
        made = [self._sealed(writer, array_id, one, source) for one in new]
        tx.entries.add_all(made)
        return made

    def get(self, tx: EntryTransaction, array_id: str, entry_uid: str) -> Entry:
        """Return an entry. Raises `EntryNotFound`."""
        found = tx.entries.get(array_id, entry_uid)
        if found is None:
            raise errors.EntryNotFound(f"there is no entry arrays/{array_id}/entries/{entry_uid}")
        return found

    def update(
        self,
        tx: EntryTransaction,
        entry: Entry,
        *,
        user_name: str | None = None,
        kind: EntryKind | None = None,
        secret: Plaintext | None = None,
        domain: str | None = None,
        source: EntrySource = EntrySource.CALL,
    ) -> Entry:
        """Store another version; what is None stays. Raises `EntryDamaged`, `FieldInvalid`, `VaultKeyUnavailable`."""
        self.check_place(entry)
        now_kind = kind or entry.kind
        if secret is None:
            secret = self.open(entry) if now_kind is entry.kind else Plaintext(b"")
        value = EntryValue(
            entry.user_name if user_name is None else user_name,
            now_kind,
            secret,
            entry.domain if domain is None else domain,
        )
        value.check()
        if value.domain and entry.resource.text:
            raise _invalid("entry.domain", "a domain belongs to a login password, which has no resource")
        encryption = entry.encryption + 1
        place = self.vault.place(entry.array_id, entry.entry_uid, entry.owner.text, entry.resource.text, encryption)
        changed = replace(
            entry,
            user_name=value.user_name,
            kind=now_kind,
            domain=value.domain,
            source=source,
            version=entry.version + 1,
            encryption=encryption,
            updated_at=self.now(),
            sealed=self.vault.seal(tx, place, _fields(value)),
        )
        if not tx.entries.replace(changed, encryption=entry.encryption):
            raise errors.EntryVersionStale(f"{entry.name} has been changed meanwhile", metadata={"entry": entry.name})
        return changed

    def upsert(
        self,
        tx: EntryTransaction,
        array_id: str,
        owner: ObjectName,
        resource: ObjectName,
        value: EntryValue,
        *,
        source: EntrySource = EntrySource.DIALOG,
    ) -> Entry:
        """Create an entry, or make the next version of it. Raises `FieldInvalid`, `VaultKeyUnavailable`."""
        known = tx.entries.find(array_id, owner, resource)
        if known is None:
            return self.create(tx, array_id, owner, resource, value, source=source)
        return self.put(tx, known, value, source=source)

    def put(self, tx: EntryTransaction, entry: Entry, value: EntryValue, *, source: EntrySource) -> Entry:
        """Store a value as the next version of an entry. Raises `FieldInvalid`, `VaultKeyUnavailable`."""
        return self.update(
            tx,
            entry,
            user_name=value.user_name,
            kind=value.kind,
            secret=value.secret,
            domain=value.domain,
            source=source,
        )

    def discard(self, tx: EntryTransaction, entry: Entry) -> bool:
        """Delete this version of an entry; False when there is another one."""
        return tx.entries.delete(entry.array_id, entry.entry_uid, version=entry.version)

    def delete(self, tx: EntryTransaction, array_id: str, entry_uid: str) -> None:
        """Delete an entry. Raises `EntryNotFound`."""
        if not tx.entries.delete(array_id, entry_uid):
            raise errors.EntryNotFound(f"there is no entry arrays/{array_id}/entries/{entry_uid}")

    def delete_chosen(
        self, tx: EntryTransaction, array_id: str, owner: ObjectName | None, resource: ObjectName | None
    ) -> tuple[list[Entry], bool]:
        """Delete the entries of an owner, a resource or both; also whether there are more.

        Raises `FieldInvalid`, `EntryDamaged`.
        """
        if owner is None and resource is None:
            raise _invalid("owner", "an owner, a resource or both are required; all entries are never deleted at once")
        found = tx.entries.chosen(array_id, owner, resource, limit=MOST_DELETED + 1)
        chosen = list(found[:MOST_DELETED])
        for entry in chosen:
            self.check_place(entry)
            tx.entries.delete(array_id, entry.entry_uid)
        return chosen, len(found) > MOST_DELETED

    def check_place(self, entry: Entry) -> None:
        """Raise `EntryDamaged`, with an alarm, for a row that was moved to another owner or resource in the index."""
        if entry.misplaced:
            raise self._damaged(entry, MISPLACED)

    async def open_stored(self, store: Store[Any], entry: Entry) -> tuple[Entry, Plaintext]:
        """Decrypt the secret of an entry that was read before; also the entry, if it has been re-encrypted meanwhile.

        Raises as `open`; an alarm also tells of a row whose key cannot be used.
        """
        try:
            return entry, await self._open_when_ready(entry)
        except errors.VaultKeyUnavailable:
            # It may have been re-encrypted since it was read, and its key destroyed.
            again: Entry = await store.read(lambda tx: self.get(tx, entry.array_id, entry.entry_uid))
            if again.encryption == entry.encryption:
                self.alarm(entry.name, f"its key {entry.sealed.kek_id} cannot be used for this array")
                raise
            return again, await self._open_when_ready(again)

    async def _open_when_ready(self, entry: Entry) -> Plaintext:
        await self.vault.make_ready(entry.array_id, entry.sealed.kek_id)
        return self.open(entry)

    def open(self, entry: Entry) -> Plaintext:
        """Decrypt the secret of an entry; empty for a smart card decision.

        Raises `EntryDamaged`, with an alarm, when the row is not as it was written, and `VaultKeyUnavailable`.
        """
        self.check_place(entry)
        place = self.vault.place(
            entry.array_id, entry.entry_uid, entry.owner.text, entry.resource.text, entry.encryption
        )
        try:
            opened = self.vault.open(place, entry.sealed)
        except DoesNotOpen:
            raise self._damaged(entry, "it does not open at its place") from None
        if opened[USER_NAME] != _user(entry.user_name, entry.domain):
            raise self._damaged(entry, "its user name or domain is not the one that was sealed")
        return opened[entry.kind.value]

    def _sealed(self, writer: Kek, array_id: str, new: NewEntry, source: EntrySource) -> Entry:
        uid, now, value = self.new_uid(), self.now(), new.value
        place = self.vault.place(array_id, uid, new.owner.text, new.resource.text, 1)
        return Entry(
            array_id,
            uid,
            new.owner,
            new.resource,
            value.user_name,
            value.kind,
            source,
            version=1,
            encryption=1,
            created_at=now,
            updated_at=now,
            sealed=self.vault.seal_under(writer, place, _fields(value)),
            domain=value.domain,
        )

    def _damaged(self, entry: Entry, why: str) -> errors.EntryDamaged:
        self.alarm(entry.name, why)
        return errors.EntryDamaged(f"{entry.name} is damaged or has been tampered with: {why}")


def _fields(value: EntryValue) -> dict[str, Plaintext]:
    return {USER_NAME: _user(value.user_name, value.domain), value.kind.value: value.secret}


def _user(user_name: str, domain: str) -> Plaintext:
    """What is sealed as the user name. Neither part has control characters, so the two cannot be confused."""
    return Plaintext.of(f"{user_name}\x00{domain}" if domain else user_name)


def _invalid(name: str, why: str) -> errors.FieldInvalid:
    return errors.FieldInvalid(f"{name}: {why}", violations=[errors.Violation(name, why)])
