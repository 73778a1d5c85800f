"""Resolution: read what a launch depends on, decide, and keep what users and launchers answer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keyreeve import errors
from keyreeve.plaintext import Plaintext
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.entries.names import LDAP, LOGIN, ObjectName, Space, parse_resource
from keyreeve_credentials.entries.ports import Entry, EntryKind
from keyreeve_credentials.entries.service import Entries, EntryValue
from keyreeve_credentials.launch_settings.service import read_settings
from keyreeve_credentials.objects.ports import Application, ApplicationServer, StoredObject, UserProfile
from keyreeve_credentials.resolution.dialog import Answer, Saving, what_to_save, what_to_save_of_login
from keyreeve_credentials.resolution.explaining import Change, what_would_change
from keyreeve_credentials.resolution.launch import CachedEntry, Launch, by_resource, resource_key
from keyreeve_credentials.resolution.launch import EntryKind as Cached
from keyreeve_credentials.resolution.outcomes import Outcome, Reaction, reaction_to
from keyreeve_credentials.resolution.ports import MOST_ENTRIES, LaunchRequest, LaunchTransaction
from keyreeve_credentials.resolution.rules import Credential, Decision, decide

USE_SECONDS = 3600
"""How old the last recorded use of an entry may be before another one is recorded, unless it changes what was used last."""
_STORED = {Cached.PASSWORD: EntryKind.PASSWORD, Cached.SMART_CARD: EntryKind.SMART_CARD}
_SMART_CARD_USER = "smart card"
"""User name of a decision for a smart card that came without one."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A decision, and the entry that it uses, if any."""

    decision: Decision
    entry: Entry | None
    was_last: bool = True
    """Whether the cached domain that was used last stays the same when it is used."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What an answer changed."""

    entry: Entry | None
    deleted: Entry | None
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """A launch, and the stored entries behind its cached ones."""

    launch: Launch
    stored: Mapping[str, Entry]
    """By `resource_key`."""


@dataclass(frozen=True)
class Resolution:
    """The use cases."""

    entries: Entries
    store: Store[Any]
    now: Callable[[], int]

    async def resolve(self, request: LaunchRequest) -> Resolved:
        """Decide which credential a launch uses. Raises `ObjectNotFound`."""
        facts = await self.store.read(lambda tx: self._facts(tx, request))
        decision = decide(facts.launch)
        if not isinstance(decision.result, Credential):
            return Resolved(decision, None)
        entry = facts.stored[resource_key(decision.result.entry.resource)]
        return Resolved(decision, entry, _was_last(entry, facts.stored.values()))

    async def secret_of(self, entry: Entry, *, was_last: bool = True) -> Plaintext:
        """Open an entry that a launch uses, and note the use. Raises `EntryDamaged`, `VaultKeyUnavailable`."""
        now = self.now()
        if now - _used_at(entry) > USE_SECONDS or not was_last:
            await self.store.write(lambda tx: tx.entries.touch(entry.entry_uid, now))
        found, secret = await self.entries.open_stored(self.store, entry)
        if found.version != entry.version:
            raise errors.VaultKeyUnavailable(f"{entry.name} has been changed meanwhile: resolve again")
        return secret

    async def explain(self, request: LaunchRequest) -> tuple[Resolved, tuple[Change, ...]]:
        """Decide, and list what would change the decision. Raises `ObjectNotFound`."""
        facts = await self.store.read(lambda tx: self._facts(tx, request))
        decision, entry = decide(facts.launch), None
        if isinstance(decision.result, Credential):
            entry = facts.stored[resource_key(decision.result.entry.resource)]
        return Resolved(decision, entry), what_would_change(facts.launch)

    def save_answer(
        self,
        tx: LaunchTransaction,
        request: LaunchRequest,
        answer: Answer,
        secret: Plaintext,
        check: Callable[[ObjectName], None],
    ) -> Saved:
        """Save what a user gave in the authentication dialog. `check` refuses callers who may not launch with a resource.

        Raises `ObjectNotFound`, `FieldInvalid`, and what `check` raises.
        """
        facts = self._facts(tx, request)
        saving = what_to_save(facts.launch, answer)
        deleted = None if saving.forgotten is None else facts.stored.get(resource_key(saving.forgotten))
        if deleted is not None:
            self.entries.delete(tx, deleted.array_id, deleted.entry_uid)
        if saving.resource is None:
            return Saved(None, deleted, saving.reason)
        resource = parse_resource(saving.resource, "dialog.domain")
        check(resource)  # the application server of the launch may be another resource
        value = _value(saving, answer, secret)
        entry = self.entries.upsert(tx, request.array_id, request.owner, resource, value)
        return Saved(entry, deleted, saving.reason)

    def save_login(self, tx: LaunchTransaction, request: LaunchRequest, user_name: str, secret: Plaintext) -> Saved:
        """Save what a user gave when logging in to the array. Raises `ObjectNotFound`, `FieldInvalid`."""
        settings = read_settings(tx, request.array_id, request.server).effective
        profile = _profile(request, _objects(tx, request)) or UserProfile("")
        saving = what_to_save_of_login(settings.save_login_password, request.third_party, profile.domain)
        if not saving.saved:
            return Saved(None, None, saving.reason)
        value = EntryValue(user_name, EntryKind.PASSWORD, secret, saving.domain)
        entry = self.entries.upsert(tx, request.array_id, request.owner, LOGIN, value)
        return Saved(entry, None, saving.reason)

    def report(
        self, tx: LaunchTransaction, request: LaunchRequest, outcome: Outcome, used: tuple[str, int] | None
    ) -> tuple[Reaction, Entry | None]:
        """Decide what follows from an outcome, and delete an entry that was refused; also which one was deleted.

        `used` is the id and version of the entry that was used. Raises `ObjectNotFound`, `FieldInvalid`.
        """
        facts = self._facts(tx, request)
        entry = None if used is None else _entry_used(facts, used[0])
        kind = None if used is None else Cached.PASSWORD
        if entry is not None:
            kind = facts.launch.entries[entry.resource.key].kind
        try:
            reaction = reaction_to(facts.launch, outcome, kind)
        except ValueError as impossible:
            raise _invalid("outcome", str(impossible)) from None
        if used is None or entry is None or entry.version != used[1] or not reaction.discards:
            return replace(reaction, discards=False), None
        deleted = self.entries.discard(tx, entry)
        return replace(reaction, discards=deleted), entry if deleted else None

    def _facts(self, tx: LaunchTransaction, request: LaunchRequest) -> Facts:
        """Read what a launch depends on. Raises `ObjectNotFound`, `FieldInvalid`, `EntryDamaged`."""
        if request.owner.text == LDAP:
            raise _invalid("launch.owner", "a person or `anonymous` is required: `ldap` launches nothing")
        objects = _objects(tx, request)
        stored = tx.launches.entries_of(request.array_id, request.owner, request.application_server, MOST_ENTRIES)
        for entry in stored:
            self.entries.check_place(entry)
        cached = [_cached(entry) for entry in stored]
        launch = Launch(
            request.owner.text,
            _server(request, objects),
            _application(request, objects),
            _profile(request, objects),
            read_settings(tx, request.array_id, request.server).effective,
            by_resource(one for one in cached if one is not None),
            request.shift_click,
            request.third_party,
        )
        return Facts(launch, {entry.resource.key: entry for entry in stored})


def _objects(tx: LaunchTransaction, request: LaunchRequest) -> Mapping[str, StoredObject]:
    names = [request.application_server, request.application, request.profile or request.owner]
    return {found.name.key: found for found in tx.objects.find(request.array_id, names)}


def _server(request: LaunchRequest, objects: Mapping[str, StoredObject]) -> ApplicationServer:
    name = request.application_server
    found = objects.get(name.key)
    server = None if found is None else found.application_server()
    if server is None and found is None and name.text.startswith(Space.DNS.value):
        return ApplicationServer(name.text)
    if server is None:
        raise errors.ObjectNotFound(f"the array {request.array_id} has no application server {name}")
    return server


def _application(request: LaunchRequest, objects: Mapping[str, StoredObject]) -> Application:
    found = objects.get(request.application.key)
    application = None if found is None else found.application()
    if application is None:
        raise errors.ObjectNotFound(f"the array {request.array_id} has no application {request.application}")
    return application


def _profile(request: LaunchRequest, objects: Mapping[str, StoredObject]) -> UserProfile | None:
    found = objects.get((request.profile or request.owner).key)
    profile = None if found is None else found.user_profile()
    if profile is None and request.profile is not None:
        raise errors.ObjectNotFound(f"the array {request.array_id} has no user profile {request.profile}")
    return profile


def _cached(entry: Entry) -> CachedEntry | None:
    used_at = _used_at(entry)
    if entry.resource == LOGIN:
        if entry.kind is not EntryKind.PASSWORD:
            return None
        return CachedEntry("", Cached.LOGIN_PASSWORD, entry.user_name, entry.domain, used_at)
    kind = Cached.SMART_CARD if entry.kind is EntryKind.SMART_CARD else Cached.PASSWORD
    return CachedEntry(entry.resource.text, kind, entry.user_name, "", used_at)


def _value(saving: Saving, answer: Answer, secret: Plaintext) -> EntryValue:
    kind = _STORED[saving.kind]
    if kind is EntryKind.SMART_CARD:
        return EntryValue(answer.user_name or _SMART_CARD_USER, kind, Plaintext(b""))
    return EntryValue(answer.user_name, kind, secret)


def _used_at(entry: Entry) -> int:
    return max(entry.used_at, entry.updated_at)


def _was_last(used: Entry, stored: Iterable[Entry]) -> bool:
    """Whether no other entry that names a Windows domain was used after this one: the dialog offers the last domain."""
    if not _names_domain(used):
        return True
    return not any(_used_at(entry) >= _used_at(used) for entry in stored if entry is not used and _names_domain(entry))


def _names_domain(entry: Entry) -> bool:
    return _is_domain(entry) or bool(entry.domain)


def _is_domain(entry: Entry) -> bool:
    return entry.resource.text.startswith(Space.DOMAIN.value)


def _entry_used(facts: Facts, entry_uid: str) -> Entry | None:
    """The entry, if it is one of those that the launch may use; None when it has gone meanwhile.

    A launch on another system than Windows uses no entry of a Windows domain, and must not have one deleted.
    """
    windows = facts.launch.application.is_windows
    return next(
        (
            entry
            for entry in facts.stored.values()
            if entry.entry_uid == entry_uid and (windows or not _is_domain(entry))
        ),
        None,
    )


def _invalid(field: str, why: str) -> errors.FieldInvalid:
    return errors.FieldInvalid(f"{field}: {why}", violations=[errors.Violation(field, why)])
