"""First and later starts: hierarchies are created once and completely, and never on a wrong database or key."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from keyreeve import Client
from keyreeve.errors import WrongDatabase
from keyreeve.keys import make_key
from keyreeve.values import AuthorityKind, AuthorityState
from keyreeve_ca.app import look
from keyreeve_ca.authorities import bootstrap
from keyreeve_ca.authorities.bootstrap import Bootstrap
from keyreeve_ca.profiles.builtin import builtin_profiles
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.locking import DatabaseRefused
from keyreeve_chassis.database.opening import place_of, writing_database
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_chassis.processes.refusals import StartRefused
from keyreeve_chassis.settings.sections import DatabaseSettings
from support.running_ca import ADMIN, RunningCa, place_for_ca, server_csr, settings_for

pytestmark = pytest.mark.sqlite_first

KINDS = ["sqlite", "postgresql"]
POINTS = ["sign.before", "sign.after", "commit.before", "commit.after"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Iterator[tuple[Path, CaSettings]]:
    """Where a CA can be started that has never run."""
    with place_for_ca(request.param, request) as found:
        yield found


def started(place: tuple[Path, CaSettings], workers: int = 0) -> RunningCa:
    directory, settings = place
    ca = RunningCa(settings, directory, workers)
    try:
        ca.start()
    except BaseException:
        ca.stop()
        raise
    return ca


def contents(settings: CaSettings) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table but those that only say who is alive."""
    with writing_database(settings, SCHEMA) as database, database.engine.connect() as connection:
        tables = [t for t in SCHEMA.metadata.sorted_tables if t.name not in {"workers", "chains", "audit_chains"}]
        return {t.name: sorted(map(tuple, connection.execute(select(t))), key=repr) for t in tables}


def assert_one_hierarchy(ca: RunningCa) -> None:
    """One root and one issuing CA in each hierarchy, all active, and they work."""
    authorities = ca.read(lambda tx: tx.authorities())
    assert sorted((a.hierarchy, a.kind, a.state) for a in authorities) == [
        (hierarchy, kind, AuthorityState.ACTIVE)
        for hierarchy in ("control", "estate")
        for kind in (AuthorityKind.INTERMEDIATE, AuthorityKind.ROOT)
    ]
    assert ca.read(lambda tx: tx.trust_metadata("root")).startswith(b"{")
    assert ca.issue(ADMIN, make_key()).authority_id == "control-issuing-1"


# --- Again --------------------------------------------------------------------------------------------------------------


def test_a_second_start_goes_on_with_what_the_first_has_made(place: tuple[Path, CaSettings]):
    first = started(place, workers=1)
    context = first.context(ADMIN)
    roots = first.client().authorities.bundle("control").roots_der
    signed = first.client().certificates.sign("server", server_csr("web.example.test"))
    first.stop()
    second = started(place, workers=1)
    try:
        moved = replace(context, endpoints={"ca": f"127.0.0.1:{second.servings[0].port}"})
        with Client(moved) as client:
            assert client.authorities.bundle("control").roots_der == roots
            assert client.certificates.get(signed.serial).certificate_der == signed.certificate_der
        assert_one_hierarchy(second)
    finally:
        second.stop()


# --- What does not belong -----------------------------------------------------------------------------------------------


def with_another_key(settings: CaSettings) -> CaSettings:
    settings.kek_file.write_bytes(os.urandom(32))
    return settings


def without_its_key(settings: CaSettings) -> CaSettings:
    settings.kek_file.unlink()
    return settings


def with_half_a_key(settings: CaSettings) -> CaSettings:
    settings.kek_file.write_bytes(b"x" * 16)
    return settings


def with_a_key_for_everybody(settings: CaSettings) -> CaSettings:
    settings.kek_file.chmod(0o644)
    return settings


def with_another_trust_domain(settings: CaSettings) -> CaSettings:
    return settings.model_copy(update={"trust_domain": "other.test"})


CHANGES: list[tuple[Callable[[CaSettings], CaSettings], type[Exception], str]] = [
    (with_another_key, KeyStoreError, "not the one that sealed"),
    (without_its_key, KeyStoreError, "missing"),
    (with_half_a_key, KeyStoreError, "32 bytes"),
    (with_a_key_for_everybody, KeyStoreError, "0644"),
    (with_another_trust_domain, StartRefused, "belongs to the trust domain example.test"),
]


def test_a_start_that_does_not_belong_is_refused_and_changes_nothing(place: tuple[Path, CaSettings]):
    directory, settings = place
    started(place).stop()
    kek, before = settings.kek_file.read_bytes(), contents(settings)
    for change, refusal, said in CHANGES:
        with pytest.raises(refusal, match=said):
            started((directory, change(settings)))
        assert settings.kek_file.exists() == (change is not without_its_key), "no other key is made in its place"
        settings.kek_file.unlink(missing_ok=True)
        settings.kek_file.write_bytes(kek)
        settings.kek_file.chmod(0o600)
    assert contents(settings) == before
    again = started(place)
    assert_one_hierarchy(again)
    again.stop()


def emptied(kind: str, settings: CaSettings) -> None:
    """Lose the database: the file, or the schema with all that is in it."""
    if kind == "sqlite":
        for path in settings.state_directory.glob("ca.db*"):
            path.unlink()
    else:
        with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {SCHEMA.name} CASCADE"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_whose_database_was_lost_does_not_get_another_root(kind: str, request: pytest.FixtureRequest):
    with place_for_ca(kind, request) as place:
        started(place).stop()
        kek = place[1].kek_file.read_bytes()
        emptied(kind, place[1])
        for _ in range(2):
            with pytest.raises(WrongDatabase, match="holds no control plane"):
                started(place)
        assert place[1].kek_file.read_bytes() == kek
        assert not list(place[1].state_directory.glob("ca.db*")), "nothing was made in its place"
        [finding] = [f.as_dict() for f in look(place[1]) if f.check == "database"]
        assert not finding["ok"]
        assert "WRONG_DATABASE" in finding["message"]


@pytest.mark.parametrize(("before", "after"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_directory_that_finds_an_empty_database_of_another_kind_makes_no_second_root(
    before: str, after: str, request: pytest.FixtureRequest
):
    with place_for_ca(before, request) as (directory, own), place_for_ca(after, request) as (_, other):
        started((directory, own)).stop()
        forgotten = own.model_copy(update={"database": other.database})
        if after == "sqlite":
            assert forgotten.sqlite_file is not None
            assert not forgotten.sqlite_file.exists()
        with pytest.raises(WrongDatabase, match=place_of(own)):
            started((directory, forgotten))
        assert after == "postgresql" or not forgotten.sqlite_file.exists()
        again = started((directory, own))
        assert_one_hierarchy(again)
        again.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_the_database_of_another_control_plane_is_refused_even_with_its_key(kind: str, request: pytest.FixtureRequest):
    with place_for_ca(kind, request) as place, place_for_ca(kind, request) as (_, other):
        started(place).stop()
        started((place[0], other)).stop()
        settings = place[1].model_copy(update={"database": other.database})
        if kind == "sqlite":
            shutil.copy(other.sqlite_file or "", place[1].sqlite_file or "")
        shutil.copy(other.kek_file, place[1].kek_file)
        with pytest.raises(WrongDatabase, match="holds another control plane"):
            started((place[0], settings))


def test_a_database_that_has_moved_is_followed_and_its_place_is_noted(request: pytest.FixtureRequest):
    with place_for_ca("sqlite", request) as (directory, settings):
        started((directory, settings)).stop()
        (settings.state_directory / "ca.db").rename(settings.state_directory / "moved.db")
        moved = settings.model_copy(update={"database": DatabaseSettings(url=SecretStr("sqlite:///moved.db"))})
        ca = started((directory, moved))
        assert_one_hierarchy(ca)
        ca.stop()
        with pytest.raises(WrongDatabase, match=r"moved\.db"):
            started((directory, settings))


def test_a_directory_of_an_older_release_notes_where_it_belongs(place: tuple[Path, CaSettings]):
    _, settings = place
    started(place).stop()
    note = settings.state_directory / "control-plane.json"
    noted = note.read_bytes()
    note.unlink()
    started(place).stop()
    assert note.read_bytes() == noted
    assert stat.S_IMODE(note.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff"])
def test_a_note_that_cannot_be_read_stops_the_start_and_says_what_to_do(place: tuple[Path, CaSettings], content: bytes):
    _, settings = place
    note = settings.state_directory / "control-plane.json"
    note.parent.mkdir(mode=0o700, exist_ok=True)
    note.write_bytes(content)
    with pytest.raises(StartRefused, match="remove this note"):
        started(place)


def test_a_first_start_that_ended_early_binds_the_directory_to_its_database(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    """Another database would lose nothing at this point, but two control planes could result, so it is refused."""
    with place_for_ca("sqlite", request) as (directory, own), place_for_ca("postgresql", request) as (_, other):
        interrupt(monkeypatch, "sign.before", 1)
        with pytest.raises(Interrupted):
            started((directory, own))
        monkeypatch.undo()
        with pytest.raises(WrongDatabase):
            started((directory, own.model_copy(update={"database": other.database})))
        ca = started((directory, own))
        assert_one_hierarchy(ca)
        ca.stop()


def test_of_two_databases_with_an_intention_one_becomes_the_control_plane(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
):
    """The first start ended between its intention and the directory's note, so the second may go elsewhere."""
    with place_for_ca("sqlite", request) as (directory, own), place_for_ca("postgresql", request) as (_, other):
        interrupt(monkeypatch, "sign.before", 1)
        with pytest.raises(Interrupted):
            started((directory, own))
        monkeypatch.undo()
        (own.state_directory / "control-plane.json").unlink()
        ca = started((directory, own.model_copy(update={"database": other.database})))
        assert_one_hierarchy(ca)
        ca.stop()
        with pytest.raises(WrongDatabase, match="another control plane"):
            started((directory, own))


def test_the_location_of_a_database_contains_no_credentials(tmp_path: Path):
    for url, told in (
        ("postgresql://ann:s3cret@db.test:5433/keyreeve?sslmode=require", "PostgreSQL db.test:5433/keyreeve"),
        ("postgresql:///keyreeve?host=/run/pg&password=s3cret&user=ann", "PostgreSQL /run/pg/keyreeve"),
        ("postgresql://ann:s3cret@db.test", "PostgreSQL db.test/"),
    ):
        assert place_of(settings_for("postgresql", tmp_path, url)) == told


def test_a_database_that_cannot_be_reached_is_reported_without_any_part_of_its_password(tmp_path: Path):
    """With an `@` in the password, that is taken for the end of it, and the rest for the name of the host."""
    environment = {
        **os.environ,
        "KEYREEVE_CA_STATE_DIRECTORY": str(tmp_path / "ca"),
        "KEYREEVE_CA_DATABASE__URL": "postgresql://ann:s3@cret@127.0.0.1:1/x",
    }
    coordinator = [sys.executable, "-m", "keyreeve_ca", "coordinator"]
    done = subprocess.run(
        coordinator, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"the database cannot be used now" in done.stderr
    assert b"cret" not in done.stdout + done.stderr


def test_a_key_that_was_lost_during_the_first_start_is_not_replaced(
    place: tuple[Path, CaSettings], monkeypatch: pytest.MonkeyPatch
):
    _, settings = place
    interrupt(monkeypatch, "sign.before", 1)
    with pytest.raises(Interrupted):
        started(place)
    monkeypatch.undo()
    settings.kek_file.unlink()
    with pytest.raises(KeyStoreError, match="missing"):
        started(place)
    assert not settings.kek_file.exists()


def test_a_control_plane_without_its_authorities_stops_the_start(place: tuple[Path, CaSettings]):
    _, settings = place
    started(place).stop()
    with writing_database(settings, SCHEMA) as database, database.engine.begin() as connection:
        connection.execute(text("UPDATE keys SET sealed = spki"))
    with pytest.raises(KeyStoreError, match="does not open"):
        started(place)


def test_two_coordinators_of_one_database(request: pytest.FixtureRequest):
    """SQLite has one coordinator; on PostgreSQL each instance has one, with the key-encryption key of the first."""
    with place_for_ca("sqlite", request) as place:
        first = started(place)
        with pytest.raises(DatabaseRefused):
            started(place)
        first.stop()
    with place_for_ca("postgresql", request) as (directory, settings):
        first = started((directory, settings))
        url = settings.database.url.get_secret_value()
        other = settings_for("postgresql", directory / "other", url, instance="other")
        (directory / "other").mkdir()
        with pytest.raises(KeyStoreError, match="missing"):
            started((directory / "other", other))
        shutil.copy(settings.kek_file, other.kek_file)
        other.kek_file.chmod(0o600)
        second = started((directory / "other", other), workers=1)
        assert_one_hierarchy(second)
        second.stop()
        first.stop()


# --- Killed -------------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    """What ends a first start."""


@dataclass
class Interruption:
    """Ends a first start at the nth time that it passes a point. Not a failpoint: other CAs of this process pass those."""

    point: str
    left: int

    def passes(self, point: str) -> None:
        self.left -= point == self.point
        if point == self.point and self.left == 0:
            raise Interrupted(point)

    async def write(self, store: Any, work: Callable[[Any], Any]) -> Any:
        def whole(tx: Any) -> Any:
            result = work(tx)
            self.passes("commit.before")
            return result

        result = await store.write(whole)
        self.passes("commit.after")
        return result

    def sign(self, signer: Any, message: bytes) -> bytes:
        self.passes("sign.before")
        signature: bytes = signer.sign(message)
        self.passes("sign.after")
        return signature


class Instead:
    """An object some of whose methods are others."""

    def __init__(self, inner: object, **methods: Callable[..., Any]) -> None:
        self._inner = inner
        self.__dict__.update(methods)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def interrupt(monkeypatch: pytest.MonkeyPatch, point: str, hit: int) -> None:
    """Let the next first start end there."""
    interruption = Interruption(point, hit)

    def interrupted(store: Any, keystore: Any, authorities: Any, *others: Any, **more: Any) -> Bootstrap:
        watched = Instead(store, write=lambda work: interruption.write(store, work))

        def opened(key: Any) -> Any:
            signer = keystore.open(key)
            return Instead(signer, sign=lambda message: interruption.sign(signer, message))

        keys = Instead(keystore, open=opened)
        return Bootstrap(watched, keys, replace(authorities, store=watched, keystore=keys), *others, **more)

    monkeypatch.setattr("keyreeve_ca.coordinator.Bootstrap", interrupted)


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
def test_a_first_start_that_fails_at_any_step_is_completed_by_a_later_one(
    place: tuple[Path, CaSettings], point: str, monkeypatch: pytest.MonkeyPatch
):
    """Every start fails one step further on than the one before it, on the same database, until one gets through."""
    for hit in range(1, 40):
        interrupt(monkeypatch, point, hit)
        try:
            ca = started(place)
            break
        except Interrupted:
            continue
    assert hit > 4, "each root and issuing CA passes it"
    assert_one_hierarchy(ca)
    ca.stop()


def test_a_first_start_that_is_killed_is_completed_by_the_next(request: pytest.FixtureRequest):
    with place_for_ca("sqlite", request) as (directory, settings):
        environment = {
            **os.environ,
            "KEYREEVE_CA_TRUST_DOMAIN": settings.trust_domain,
            "KEYREEVE_CA_INSTANCE": settings.instance,
            "KEYREEVE_CA_STATE_DIRECTORY": str(settings.state_directory),
            "KEYREEVE_ALLOW_FAILPOINTS": "1",
            "KEYREEVE_FAILPOINTS": "ca.commit.after=crash@5",
        }
        done = subprocess.run(
            [sys.executable, "-m", "keyreeve_ca", "coordinator"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        assert b"ready" not in done.stdout
        assert contents(settings)["authorities"] == []
        ca = started((directory, settings), workers=1)
        assert_one_hierarchy(ca)
        blocks = contents_of_blocks(ca)
        assert len(blocks) > 4, "what the killed start may have signed is on record"
        ca.stop()


def contents_of_blocks(ca: RunningCa) -> list[int]:
    with_blocks = text("SELECT block_id FROM serial_blocks")
    return [row[0] for row in ca.read(lambda tx: tx._connection.execute(with_blocks).all())]


# --- A new release ------------------------------------------------------------------------------------------------------


def test_a_new_release_brings_new_versions_and_an_old_one_that_comes_back_takes_none_away(
    place: tuple[Path, CaSettings], monkeypatch: pytest.MonkeyPatch
):
    started(place).stop()
    old = builtin_profiles("example.test")
    newer = {**old, "client": old["server"], "brand-new": old["client"]}
    for release, version in ((newer, 2), (newer, 2), (old, 2), (newer, 2)):
        monkeypatch.setattr(bootstrap, "builtin_profiles", lambda _td, release=release: release)
        ca = started(place)
        found = ca.read(lambda tx: (tx.profile("client"), tx.profile_facts("client", 2), tx.profile("brand-new")))
        assert found[0].version == version
        assert found[0].sha256 == newer["client"][1]
        assert found[1][1] == "built-in"
        assert found[2].version == 1
        ca.stop()
