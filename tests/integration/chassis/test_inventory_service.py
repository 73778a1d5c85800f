"""The inventory service in this process: its access rules, its schema, and what `check` finds."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from keyreeve.identity import ALL_ROLES
from keyreeve_chassis.database.opening import writing_database
from keyreeve_chassis.guard.peers import PeerVerifier, TrustView
from keyreeve_chassis.local_admin.client import ask
from keyreeve_chassis.processes.lifecycle import system_clock
from keyreeve_chassis.processes.solo import NoStorage, RunningService, run_solo
from keyreeve_chassis.rpc.health import Health, health_service
from keyreeve_chassis.rpc.reflection import reflection_services
from keyreeve_chassis.schema.migrating import drift
from keyreeve_chassis.settings.sections import DatabaseServerSettings, DatabaseSettings, ServerSettings
from keyreeve_chassis.settings.serving import ServingSettings
from keyreeve_chassis.tls import ServerIdentity
from support import stateless_service
from support.access_matrix import caller_kinds, operators, walk
from support.inventory_service.service import SCHEMA, SPEC, STORAGE
from support.peer_certificates import TRUST_DOMAIN, Hierarchies
from support.postgres import Server
from support.running import KnownRevocations


@dataclass
class TestIdentity:
    """An identity that the test issues."""

    __test__ = False
    hierarchies: Hierarchies
    revocations: KnownRevocations

    def server_identity(self) -> ServerIdentity:
        leaf = self.hierarchies.control.service()
        return ServerIdentity(leaf.chain_pem, leaf.key_pem, self.hierarchies.control_root.pem)

    def trust_view(self) -> TrustView:
        view = TrustView(TRUST_DOMAIN, (self.hierarchies.control.certificate,), 1)
        return replace(view, operators=operators())

    def jobs(self) -> tuple[()]:
        return ()

    @asynccontextmanager
    async def opened(self, *_: Any) -> AsyncIterator["TestIdentity"]:
        """This identity, as `open_service_identity` gives one."""
        yield self


async def walk_all(identity: TestIdentity, running: RunningService) -> None:
    """Call every method as every kind of caller."""
    router = running.router.plus([health_service(Health(), roles=ALL_ROLES), *reflection_services([])])
    verifier = PeerVerifier(identity.trust_view, system_clock, identity.revocations)
    tried = await walk(f"127.0.0.1:{running.port}", router, identity.hierarchies, verifier)
    assert tried == len(caller_kinds(identity.hierarchies)) * len(router.methods)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> DatabaseServerSettings:
    url = "sqlite:///items.db"
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql_server")
        name = f"inventory_{uuid.uuid4().hex}"
        server.execute(f"CREATE DATABASE {name}")
        url = server.url(name)
    return DatabaseServerSettings(
        trust_domain=TRUST_DOMAIN,
        state_directory=tmp_path / "state",
        database=DatabaseSettings(url=SecretStr(url)),
        listen=ServingSettings(health_port=None),
    )


async def test_every_method_of_a_second_service_keeps_to_its_access_rule(settings: DatabaseServerSettings) -> None:
    identity = TestIdentity(Hierarchies.make(), KnownRevocations())
    async with run_solo(SPEC, settings, STORAGE, identity.opened) as running:
        await walk_all(identity, running)
        found = await ask(settings.coordinator_socket, "check", None)
    assert all(finding["ok"] for finding in found), found
    assert {finding["check"] for finding in found} >= {"files", "database"}


async def test_every_method_of_a_service_without_a_database_keeps_to_its_access_rule(tmp_path: Path) -> None:
    identity = TestIdentity(Hierarchies.make(), KnownRevocations())
    settings = ServerSettings(
        trust_domain=TRUST_DOMAIN, state_directory=tmp_path / "state", listen=ServingSettings(health_port=None)
    )
    async with run_solo(stateless_service.SPEC, settings, NoStorage(), identity.opened) as running:
        await walk_all(identity, running)


def test_the_migrations_of_a_second_service_create_its_tables_exactly(settings: DatabaseServerSettings) -> None:
    settings.state_directory.mkdir(mode=0o700)
    STORAGE.migrate(settings)
    with writing_database(settings, SCHEMA) as database:
        assert drift(database.engine, SCHEMA) == []
        with database.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM items")).scalar_one() == 0
