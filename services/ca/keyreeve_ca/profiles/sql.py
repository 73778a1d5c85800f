"""Profiles and their versions in the database: the statements behind `store.ports.Transaction`.

`read` parses the documents; callers pass it in, so the store does not depend on their grammar.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from keyreeve import errors
from keyreeve_ca.profiles.profile import Profile, ProfileVersion
from keyreeve_ca.store.tables import profile_versions, profiles
from keyreeve_chassis.trust_tables.sql import SqlTrust

_COLUMNS = [profile_versions.c[name] for name in ("name", "version", "sha256", "document", "halted")]


def add(connection: Connection, trust: SqlTrust, version: ProfileVersion, created_at: int, created_by: str) -> None:
    """Insert a version and make it the current one.

    Raises `ProfileExists` or `ProfileVersionStale` on a race. The commit gate knows documents by their hashes: one that
    was halted under another version stays halted.
    """
    current = connection.scalar(
        select(profiles.c.current_version).where(profiles.c.name == version.name).with_for_update()
    )
    facts = {"profile": version.name, "current_version": str(current or 0)}
    if current is not None and version.version == 1:
        raise errors.ProfileExists(f"there is a profile {version.name!r}", metadata=facts)
    if version.version != (current or 0) + 1:
        raise errors.ProfileVersionStale(
            f"profile {version.name!r} is at version {current or 0}, so {version.version} cannot be the next",
            metadata=facts,
        )
    if current is None:
        trust.rows(profiles).insert({"name": version.name, "current_version": 1})
    else:
        trust.rows(profiles).update(profiles.c.name == version.name, {"current_version": version.version})
    trust.rows(profile_versions).insert(
        {
            "name": version.name,
            "version": version.version,
            "sha256": version.sha256,
            "document": version.document,
            "halted": version.halted or _is_halted(connection, version.sha256),
            "created_at": created_at,
            "created_by": created_by,
        }
    )


def find(connection: Connection, read: Callable[[str], Profile], name: str, version: int | None) -> ProfileVersion:
    """Read the current or the given version. Raises `ProfileNotFound`."""
    if version is None:
        query = _current_versions().where(profiles.c.name == name)
    else:
        query = select(*_COLUMNS).where(profile_versions.c.name == name, profile_versions.c.version == version)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise _no_profile(name, version)
    return _version(row, read)


def facts(connection: Connection, name: str, version: int) -> tuple[int, str]:
    """When a version was made (seconds since 1970), and by whom. Raises `ProfileNotFound`."""
    row = connection.execute(
        select(profile_versions.c.created_at, profile_versions.c.created_by).where(
            profile_versions.c.name == name, profile_versions.c.version == version
        )
    ).one_or_none()
    if row is None:
        raise _no_profile(name, version)
    return row.created_at, row.created_by


def page(
    connection: Connection, read: Callable[[str], Profile], *, after: str, limit: int | None
) -> Sequence[ProfileVersion]:
    """The current version of every profile ordered by name, from the one after `after`."""
    query = _current_versions().where(profiles.c.name > after).order_by(profiles.c.name).limit(limit)
    return [_version(row, read) for row in connection.execute(query)]


def halt(trust: SqlTrust, name: str, version: int) -> None:
    """Halt a version, and every other version with the same document."""
    document = (
        select(profile_versions.c.sha256)
        .where(profile_versions.c.name == name, profile_versions.c.version == version)
        .scalar_subquery()
    )
    trust.rows(profile_versions).update(profile_versions.c.sha256 == document, {"halted": True})


def _is_halted(connection: Connection, sha256: bytes) -> bool:
    halted = select(profile_versions.c.name).where(profile_versions.c.sha256 == sha256, profile_versions.c.halted)
    return connection.execute(halted.limit(1)).first() is not None


def _version(row: Row[Any], read: Callable[[str], Profile]) -> ProfileVersion:
    return ProfileVersion(
        name=row.name,
        version=row.version,
        sha256=row.sha256,
        document=row.document,
        profile=read(row.document),
        halted=row.halted,
    )


def _current_versions() -> Select[Any]:
    return select(*_COLUMNS).join(
        profiles,
        (profiles.c.name == profile_versions.c.name) & (profiles.c.current_version == profile_versions.c.version),
    )


def _no_profile(name: str, version: int | None) -> errors.ProfileNotFound:
    which = f"profile {name!r}" if version is None else f"version {version} of profile {name!r}"
    return errors.ProfileNotFound(f"there is no {which}", metadata={"profile": name})
