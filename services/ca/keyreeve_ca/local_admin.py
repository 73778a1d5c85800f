"""What an operator does beside the running service: settings, findings, the first operator."""

import asyncio
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from keyreeve.errors import StoreUnavailable, WrongDatabase
from keyreeve_ca.app import binding_of, now, open_keystore, store_of
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.ports import AuthorityState, ControlPlaneState
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database import migrating
from keyreeve_chassis.database.binding import DatabaseBinding
from keyreeve_chassis.database.engine import WAL_RESET_BUG_FIXED, SqliteRelease, sqlite_release
from keyreeve_chassis.database.locking import DatabaseRefused
from keyreeve_chassis.database.opening import reading_database, writing_database
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.keys.ports import KeyStoreError, verify_check_value
from keyreeve_chassis.processes.ipc import Client
from keyreeve_chassis.processes.refusals import StartRefused

_LOCAL_SECONDS = 20.0
_DAY = 86_400


async def first_operator(socket: Path, name: str, csr: bytes) -> dict[str, str]:
    """Ask the running service for an admin certificate. Raises `StoreUnavailable` when it does not answer."""
    client = Client(socket)
    try:
        answer: dict[str, str] = await client.call("first_operator", {"name": name, "csr": csr}, _LOCAL_SECONDS)
        return answer
    finally:
        await client.close()


async def recover(socket: Path, operator: str | None = None, address: str = "") -> dict[str, Any]:
    """Have the running service replace what has expired, and make a token for an admin of the name `operator`.

    Raises `StoreUnavailable` when it does not answer.
    """
    client = Client(socket)
    try:
        report: dict[str, Any] = await client.call(
            "recover", {"operator": operator, "address": address}, _LOCAL_SECONDS
        )
        return report
    finally:
        await client.close()


async def service_token(socket: Path, service: str, instance: str, address: str = "") -> dict[str, Any]:
    """Have the running service make an enrollment token for an instance of another service.

    `address` is the enrollment listener's `host:port` as that instance reaches it; empty: as the settings say. Raises
    `StoreUnavailable` when the service does not answer, `NameRefused`, `TokenNotAllowed` for the CA itself.
    """
    client = Client(socket)
    try:
        made: dict[str, Any] = await client.call(
            "service_token", {"service": service, "instance": instance, "address": address}, _LOCAL_SECONDS
        )
        return made
    finally:
        await client.close()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: an error when it is not `ok`, a warning when it is and there is something to do."""

    check: str
    ok: bool
    message: str
    fix: str = ""


async def check(settings: CaSettings) -> list[dict[str, Any]]:
    """Have the running service look at what it stands on, or look from here when none answers; nothing is changed.

    The service may have been started with other settings than there are here: with a variable that is not set now.
    """
    client = Client(settings.coordinator_socket)
    try:
        answer: list[dict[str, Any]] = await client.call("check", None, _LOCAL_SECONDS)
    except StoreUnavailable:
        return await asyncio.to_thread(look, settings)
    else:
        return answer
    finally:
        await client.close()


def look(settings: CaSettings) -> list[dict[str, Any]]:
    """Look at everything that can be seen from beside the service; nothing is changed."""
    findings = [*_files(settings), *check_sqlite(settings, sqlite_release()), *_database(settings)]
    return [asdict(finding) for finding in findings]


def _files(settings: CaSettings) -> Iterator[Finding]:
    for path, wanted in (
        (settings.state_directory, 0o700),
        (settings.kek_file, 0o600),
        (settings.recovery_key_file, 0o600),
    ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as missing:
            yield Finding("files", ok=False, message=f"{path}: {missing.strerror}", fix="keyreeve up makes it, once")
            continue
        ok = settings.keys.mounted or not mode & ~wanted
        yield Finding("files", ok, f"{path} has mode {mode:04o}", "" if ok else f"chmod {wanted:o} {path}")


def check_sqlite(settings: CaSettings, release: SqliteRelease) -> Iterator[Finding]:
    """Does the database lie with an SQLite that has the WAL-reset bug? This service avoids it; others may not."""
    if settings.sqlite_file is None:
        return
    if not release.has_wal_reset_bug:
        yield Finding("sqlite", ok=True, message=f"SQLite {release.version}")
        return
    yield Finding(
        "sqlite",
        ok=True,
        message=f"SQLite {release.version} can corrupt a WAL database that two connections checkpoint at once; the service "
        "has only one that writes, which avoids it",
        fix="open the database with no other program while the service runs, and use a Python with SQLite "
        f"{'.'.join(map(str, WAL_RESET_BUG_FIXED))} or newer, in which it is mended",
    )


def _database(settings: CaSettings) -> Iterator[Finding]:
    opened = writing_database if settings.sqlite_file is None else reading_database
    binding = binding_of(settings)
    try:
        if settings.sqlite_file is not None and not settings.sqlite_file.exists():
            binding.check(None)
            yield Finding(
                "database", ok=False, message=f"{settings.sqlite_file} does not exist", fix="keyreeve up makes it"
            )
            return
        with opened(settings, SCHEMA) as database:
            if migrating.current_revision(database.engine, SCHEMA) is None:
                binding.check(None)
            version = migrating.check_version(database.engine, SCHEMA)
            yield Finding("database", ok=True, message=f"schema version {version} in {binding.place}")
            yield from _control_plane(settings, binding, database)
    except WrongDatabase as wrong:
        yield Finding("database", ok=False, message=f"{wrong.reason}: {wrong.message}", fix=wrong.fix)
    except (DatabaseRefused, StartRefused, SQLAlchemyError) as refused:
        # Of SQLAlchemy's errors the type alone: the text may hold the URL with its password.
        message = type(refused).__name__ if isinstance(refused, SQLAlchemyError) else str(refused)
        yield Finding("database", ok=False, message=message, fix="Is the database up, and is database.url right?")


def _control_plane(settings: CaSettings, binding: DatabaseBinding, database: Database) -> Iterator[Finding]:
    store = store_of(database, None)
    control_plane, authorities = store.read_here(lambda tx: (tx.control_plane(), tx.authorities()))
    binding.check(None if control_plane is None else control_plane.bound)
    if control_plane is None or not control_plane.bootstrapped_at:
        yield Finding("control plane", ok=False, message="it has not been made yet", fix="Start the service once")
        return
    ok = control_plane.trust_domain == settings.trust_domain
    yield Finding(
        "control plane", ok, f"trust domain {control_plane.trust_domain}", "" if ok else "Set trust_domain back to it"
    )
    yield _kek(settings, control_plane)
    for authority in authorities:
        if authority.state is not AuthorityState.ACTIVE:
            continue
        days = (authority.not_after - now()) // _DAY
        total = (authority.not_after - authority.not_before) // _DAY
        yield Finding(
            "expiry",
            ok=days > total / 10,
            message=f"authority {authority.authority_id} expires in {days} days",
            fix="" if days > total / 10 else "Create and activate its successor: keyreeve authority create",
        )


def _kek(settings: CaSettings, control_plane: ControlPlaneState) -> Finding:
    try:
        verify_check_value(open_keystore(settings), control_plane.key_check)
    except KeyStoreError as wrong:
        return Finding("key-encryption key", ok=False, message=wrong.message, fix=wrong.fix)
    return Finding("key-encryption key", ok=True, message="it opens this database's keys")
