"""Commands of the local admin socket: findings, first operator, recovery, service tokens."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from keyreeve_ca.app import binding_of, open_keystore, store_of
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.ports import AuthorityState, ControlPlaneState
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.binding import DatabaseBinding
from keyreeve_chassis.database.engine import sqlite_release
from keyreeve_chassis.database.opening import look_at_database, look_at_sqlite
from keyreeve_chassis.database.transactions import Database
from keyreeve_chassis.keys.ports import KeyStoreError, verify_check_value
from keyreeve_chassis.local_admin.client import ask
from keyreeve_chassis.local_admin.findings import Finding, look_at_files
from keyreeve_chassis.local_admin.transport import look_at_transport
from keyreeve_chassis.processes.lifecycle import system_clock

_DAY = 86_400


async def first_operator(socket: Path, name: str, csr: bytes) -> Any:  # noqa: ANN401 - plain values
    """Ask the running service for an admin certificate. Raises `StoreUnavailable` when it does not answer."""
    return await ask(socket, "first_operator", {"name": name, "csr": csr})


async def recover(socket: Path, operator: str | None = None, address: str = "") -> Any:  # noqa: ANN401
    """Have the running service replace what has expired, and make a token for an admin of the name `operator`.

    Raises `StoreUnavailable` when it does not answer.
    """
    return await ask(socket, "recover", {"operator": operator, "address": address})


async def service_token(socket: Path, service: str, instance: str, address: str = "") -> Any:  # noqa: ANN401
    """Have the running service make an enrollment token for an instance of another service.

    `address` is the enrollment listener's `host:port` as that instance reaches it; empty: as the settings say. Raises
    `StoreUnavailable` when the service does not answer, `NameRefused`, `TokenNotAllowed` for the CA itself.
    """
    return await ask(socket, "service_token", {"service": service, "instance": instance, "address": address})


def look(settings: CaSettings) -> list[Finding]:
    """Check everything that can be seen without the service; nothing is changed."""
    binding = binding_of(settings)
    private = ((settings.state_directory, 0o700), (settings.kek_file, 0o600), (settings.recovery_key_file, 0o600))
    return [
        *look_at_files(private, mounted=settings.keys.mounted),
        *look_at_transport(settings.listen.connections),
        *look_at_sqlite(settings, sqlite_release()),
        *look_at_database(settings, SCHEMA, binding, partial(_control_plane, settings, binding)),
    ]


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
        days = (authority.not_after - system_clock()) // _DAY
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
