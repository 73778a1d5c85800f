"""The roles and schemas that an administrator makes for the services, on a real PostgreSQL."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import text

from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database import roles
from keyreeve_chassis.database.engine import postgresql
from keyreeve_chassis.database.roles import RolesRefused, make_roles
from keyreeve_chassis.schema.migrating import upgrade
from support.postgres import Server

ROLES = {service: f"kr_roles_{service}" for service in roles.SERVICES}
NAME = "kr_roles"


@dataclass
class Administered:
    server: Server

    @property
    def admin(self) -> str:
        return self.server.url(NAME)

    def url(self, service: str, role: str = "") -> str:
        return f"postgresql://{role or ROLES[service]}:a%20secret@/{NAME}?host={self.server.directory}"

    @property
    def urls(self) -> dict[str, str]:
        return {service: self.url(service) for service in ROLES}

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.admin) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload, no-any-return]


@pytest.fixture(scope="module")
def administered(postgresql_server: Server) -> Iterator[Administered]:
    postgresql_server.execute(f"CREATE DATABASE {NAME}")
    made = Administered(postgresql_server)
    make_roles(made.admin, made.urls)
    yield made
    postgresql_server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
    for role in ROLES.values():
        postgresql_server.execute(f"DROP ROLE {role}")


def test_a_role_migrates_and_uses_its_own_schema(administered: Administered) -> None:
    engine = postgresql(administered.url("ca"), schema=SCHEMA.name, application_name="test", connections=1)
    upgrade(engine, SCHEMA)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM certificates")) == 0
        assert connection.scalar(text("SHOW search_path")) == f'"{SCHEMA.name}"'
    engine.dispose()


@pytest.mark.parametrize("other", ["keyreeve_membership", "keyreeve_credentials", "public"])
def test_a_role_can_do_nothing_in_another_schema(administered: Administered, other: str) -> None:
    with psycopg.connect(administered.url("ca"), autocommit=True) as connection:
        for statement in (f"CREATE TABLE {other}.mine (one int)", f"DROP SCHEMA {other} CASCADE", "CREATE SCHEMA more"):
            with pytest.raises(InsufficientPrivilege):
                connection.execute(statement)  # type: ignore[call-overload]
    rights = f"SELECT has_schema_privilege('{ROLES['ca']}', '{other}', 'CREATE')"
    assert administered.ask(rights) == [(False,)]
    if other != "public":
        assert administered.ask(rights.replace("CREATE", "USAGE")) == [(False,)]


def test_a_role_is_no_superuser_and_its_password_is_a_verifier(administered: Administered) -> None:
    found = administered.ask(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolpassword FROM pg_authid WHERE rolname LIKE 'kr_roles_%'"
    )
    assert len(found) == len(ROLES)
    for *rights, password in found:
        assert rights == [False, False, False, True]
        assert str(password).startswith("SCRAM-SHA-256$")


def test_roles_may_be_made_again_and_others_are_refused(administered: Administered) -> None:
    make_roles(administered.admin, administered.urls)
    same = {"ca": administered.url("ca"), "membership": administered.url("membership", ROLES["ca"])}
    with pytest.raises(RolesRefused, match="of its own"):
        make_roles(administered.admin, same)
    with pytest.raises(RolesRefused, match="administrator"):
        make_roles(administered.admin, {"ca": administered.url("ca", "keyreeve")})
    with pytest.raises(RolesRefused, match="another database"):
        make_roles(administered.admin, {"ca": administered.url("ca").replace(f"/{NAME}?", "/other?")})


def test_the_command_reads_files_and_tells_no_password(
    administered: Administered, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "admin").write_text(administered.admin)
    for service, url in administered.urls.items():
        (tmp_path / service).write_text(f"{url}\n")
    assert roles.main(["--admin", str(tmp_path / "admin"), "--urls", str(tmp_path)]) == 0
    (tmp_path / "admin").write_text(administered.admin.replace("keyreeve@", "keyreeve:a-secret@") + "&port=1")
    assert roles.main(["--admin", str(tmp_path / "admin"), "--urls", str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "could not be made" in told.err
    assert "secret" not in told.out + told.err


def test_the_script_for_psql_gives_the_same_rights(administered: Administered, tmp_path: Path) -> None:
    name = "kr_roles_script"
    prefix = "kr_script"
    text_of = roles.script(name)
    for service in roles.SERVICES:
        role = f'"keyreeve_{service}"'
        text_of = text_of.replace(f"\\password {role}\n", "").replace(f"ROLE {role}", f"ROLE {prefix}_{service}")
        for word in (" TO ", "AUTHORIZATION ", "GRANT "):
            text_of = text_of.replace(f"{word}{role}", f"{word}{prefix}_{service}")
    administered.server.execute(f"CREATE DATABASE {name}")
    try:
        administered.server.restore(name, text_of.encode())
        owners = "SELECT n.nspname, r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner"
        with psycopg.connect(administered.server.url(name)) as connection:
            found = dict(connection.execute(owners).fetchall())
        assert {f"keyreeve_{one}": found[f"keyreeve_{one}"] for one in roles.SERVICES} == {
            f"keyreeve_{one}": f"{prefix}_{one}" for one in roles.SERVICES
        }
    finally:
        administered.server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        for service in roles.SERVICES:
            administered.server.execute(f"DROP ROLE IF EXISTS {prefix}_{service}")
