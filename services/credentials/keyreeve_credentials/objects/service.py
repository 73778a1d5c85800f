"""Objects: create, change and delete them, each inside the caller's transaction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from keyreeve import errors
from keyreeve_credentials.entries.names import ObjectName, Space, parse_tfn
from keyreeve_credentials.objects.ports import (
    ApplicationKind,
    ObjectKind,
    ObjectTransaction,
    PasswordCacheUsage,
    StoredObject,
)

SERVER_SPACES = frozenset({Space.LOCAL, Space.DNS})
LOCAL_SPACE = frozenset({Space.LOCAL})


def parse_object_name(text: str, field: str, *, server: bool = False) -> ObjectName:
    """Check the name of an object; a server may be named by its DNS name. Raises `FieldInvalid`."""
    return parse_tfn(text, SERVER_SPACES if server else LOCAL_SPACE, field)


def check_object(made: StoredObject) -> None:
    """Raise `FieldInvalid` for attributes that an object of this kind does not have."""
    parse_object_name(made.name.text, "object.object_name", server=made.is_server)
    if made.domain:
        parse_tfn(f"{Space.DOMAIN.value}{made.domain}", frozenset({Space.DOMAIN}), "object.domain")
    is_application = made.kind is ObjectKind.APPLICATION
    if is_application != (made.application_kind is not None):
        raise _invalid("application_kind", "required for applications, and for no other kind")
    windows = made.application_kind is ApplicationKind.WINDOWS
    if is_application and not windows and made.domain:
        raise _invalid("domain", "only applications that run on Windows have a domain")
    if not windows and not made.enhanced_network_security:
        raise _invalid("enhanced_network_security", "an attribute of Windows applications")
    if not made.is_server and made.password_cache_usage is not PasswordCacheUsage.DEFAULT:
        raise _invalid("password_cache_usage", "an attribute of application servers")


@dataclass(frozen=True)
class Objects:
    """The use cases."""

    now: Callable[[], int]

    def create(self, tx: ObjectTransaction, made: StoredObject) -> StoredObject:
        """Create an object. Raises `ObjectExists`, `FieldInvalid`."""
        check_object(made)
        now = self.now()
        created = replace(made, version=1, created_at=now, updated_at=now)
        if not tx.objects.add(created):
            raise errors.ObjectExists(f"the array {made.array_id} has an object {made.name}")
        return created

    def get(self, tx: ObjectTransaction, array_id: str, name: ObjectName) -> StoredObject:
        """Return an object. Raises `ObjectNotFound`."""
        found = tx.objects.find(array_id, [name])
        if not found:
            raise errors.ObjectNotFound(f"the array {array_id} has no object {name}")
        return found[0]

    def update(
        self, tx: ObjectTransaction, array_id: str, name: ObjectName, version: int, changes: dict[str, Any]
    ) -> StoredObject:
        """Store another version. Raises `ObjectNotFound`, `ObjectVersionStale`, `FieldInvalid`."""
        found = self.get(tx, array_id, name)
        if version not in {0, found.version}:
            raise errors.ObjectVersionStale(
                f"{name} is at version {found.version}", metadata={"version": str(found.version)}
            )
        changed = replace(found, **changes, version=found.version + 1, updated_at=self.now())
        check_object(changed)
        if not tx.objects.replace(changed, version=found.version):
            raise errors.ObjectVersionStale(f"{name} has been changed meanwhile")
        return changed

    def delete(self, tx: ObjectTransaction, array_id: str, name: ObjectName) -> None:
        """Delete an object. Raises `ObjectNotFound`."""
        if not tx.objects.delete(array_id, name):
            raise errors.ObjectNotFound(f"the array {array_id} has no object {name}")


def _invalid(field: str, why: str) -> errors.FieldInvalid:
    return errors.FieldInvalid(f"object.{field}: {why}", violations=[errors.Violation(f"object.{field}", why)])
