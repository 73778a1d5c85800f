import json
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, Field, SecretStr

from keyreeve_chassis.settings.loading import ServiceSettings, SettingsRefused, describe, load
from keyreeve_chassis.settings.serving import ServingSettings


class Store(BaseModel):
    url: str = Field("sqlite:///here", description="Where it is.")
    password: SecretStr = SecretStr("")
    sizes: list[int] = [1]


class Tracing(BaseModel):
    endpoint: str


class Example(ServiceSettings):
    RENAMED: ClassVar[dict[str, str]] = {"shop": "store"}
    name: str = "one"
    level: int = 3
    port: int = 1
    store: Store = Store()
    tracing: Tracing | None = None
    listen: ServingSettings = ServingSettings()


PREFIX = "KEYREEVE_CA_"


def read(tmp_path: Path, text: str | None = None, secrets: dict[str, str] | None = None, **environment: str):
    file = directory = None
    if text is not None:
        file = tmp_path / "ca.yaml"
        file.write_text(text)
    if secrets is not None:
        directory = tmp_path / "secrets"
        directory.mkdir()
        for name, value in secrets.items():
            (directory / name).write_text(value)
    environment = {"HOME": "/", **{PREFIX + name: value for name, value in environment.items()}}
    return load(Example, file, PREFIX, environment=environment, secrets_directory=directory)


def rows(loaded) -> dict[str, tuple[str, str]]:
    return {row.key: (row.value, row.origin) for row in describe(loaded)}


def test_without_sources_everything_is_the_default(tmp_path):
    loaded = read(tmp_path)
    assert loaded.settings == Example()
    assert {row.origin for row in describe(loaded)} == {"default"}


def test_later_sources_win_and_each_value_knows_where_it_came_from(tmp_path):
    text = "name: file\nlevel: 5\nstore:\n  url: file\n  sizes: [1, 2]\n"
    loaded = read(
        tmp_path, text, {"store.password": "p1\n", "store__url": "secret"}, STORE__URL="env", LEVEL="7", NAME="2"
    )
    assert loaded.settings.name == "2"
    assert loaded.settings.level == 7
    assert loaded.settings.store.url == "env"
    assert loaded.settings.store.sizes == [1, 2]
    assert loaded.settings.store.password.get_secret_value() == "p1"
    found = rows(loaded)
    assert found["store.url"] == ('"env"', "environment KEYREEVE_CA_STORE__URL")
    assert found["store.sizes"] == ("[1, 2]", f"file {tmp_path / 'ca.yaml'}")
    assert found["store.password"] == ('"***"', f"secret file {tmp_path / 'secrets' / 'store.password'}")
    assert found["port"] == ("1", "default")
    assert "p1" not in repr(loaded)


def test_an_earlier_name_of_a_key_works_in_a_file_but_not_beside_the_present_one(tmp_path):
    assert read(tmp_path, "shop:\n  url: earlier\n").settings.store.url == "earlier"
    with pytest.raises(SettingsRefused, match="shop"):
        read(tmp_path, "shop:\n  url: earlier\nstore:\n  url: now\n")


def test_descriptions_come_along():
    assert {row.description for row in describe(load(Example, None, PREFIX, environment={}))} >= {"Where it is."}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"text": "leval: 1\n"}, "there is no setting leval; the nearest is level"),
        ({"text": "store:\n  ulr: x\n"}, "there is no setting store.ulr; the nearest is store.url"),
        ({"text": "store: 5\n"}, "store is a section and needs a map"),
        ({"text": "- 1\n"}, "does not hold a map"),
        ({"text": "a: [\n"}, "cannot be read"),
        ({"text": "!!python/object/apply:os.system [x]\n"}, "cannot be read"),
        ({"secrets": {"store.pasword": "x"}}, "there is no setting store.pasword; the nearest is store.password"),
        ({"STORE_URL": "x"}, "no setting KEYREEVE_CA_STORE_URL; the nearest is KEYREEVE_CA_STORE__URL"),
        ({"LEVEL": "high"}, "level (environment KEYREEVE_CA_LEVEL): Input should be a valid integer"),
        ({"LISTEN__PORT": "70000"}, "listen.port (environment KEYREEVE_CA_LISTEN__PORT)"),
        ({"STORE__SIZES": "[1, x"}, "store.sizes (environment KEYREEVE_CA_STORE__SIZES)"),
    ],
)
def test_what_cannot_be_used_is_refused_and_named(tmp_path, source, problem):
    with pytest.raises(SettingsRefused) as refused:
        read(tmp_path, **source)
    assert problem in str(refused.value)


def test_all_problems_are_reported_together(tmp_path):
    with pytest.raises(SettingsRefused) as refused:
        read(tmp_path, "leval: 1\nnaame: x\n", PROT="1")
    assert len(refused.value.problems) == 3


def test_a_refused_secret_is_not_printed(tmp_path):
    with pytest.raises(SettingsRefused) as refused:
        read(tmp_path, secrets={"store.password": '["hunter2"]'})
    assert "hunter2" not in str(refused.value)


def test_a_missing_file_or_directory_is_refused(tmp_path):
    with pytest.raises(SettingsRefused, match=r"gone\.yaml cannot be read"):
        load(Example, tmp_path / "gone.yaml", PREFIX, environment={})
    with pytest.raises(SettingsRefused, match="cannot be read"):
        load(Example, None, PREFIX, environment={}, secrets_directory=tmp_path / "gone")


def test_lists_and_sections_can_be_set_from_the_environment(tmp_path):
    settings = read(tmp_path, STORE__SIZES="[4, 5]", TRACING__ENDPOINT="http://here:4317").settings
    assert settings.store.sizes == [4, 5]
    assert settings.tracing == Tracing(endpoint="http://here:4317")


def test_a_section_that_may_be_absent_can_be_switched_off(tmp_path):
    assert read(tmp_path, "tracing:\n  endpoint: x\n", TRACING="null").settings.tracing is None
    assert read(tmp_path, LISTEN__HEALTH_PORT="null").settings.listen.health_port is None


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    assert read(tmp_path, NAME="007").settings.name == "007"


def test_the_variables_that_kubernetes_makes_for_a_service_are_not_ours(tmp_path):
    environment = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8443",
        "SERVICE_PORT_GRPC": "8443",
        "PORT": "tcp://10.0.0.1:8443",
        "PORT_8443_TCP": "tcp://10.0.0.1:8443",
        "PORT_8443_TCP_PROTO": "tcp",
        "PORT_8443_TCP_PORT": "8443",
        "PORT_8443_TCP_ADDR": "10.0.0.1",
    }
    assert read(tmp_path, **environment).settings == Example()
    assert read(tmp_path, PORT="5").settings.port == 5


def test_a_mounted_secrets_inner_directories_are_skipped(tmp_path):
    inner = tmp_path / "secrets" / "..2026"
    inner.mkdir(parents=True)
    (tmp_path / "secrets" / "..data").symlink_to(inner)
    (inner / "name").write_text("mounted")
    (tmp_path / "secrets" / "name").symlink_to(inner / "name")
    loaded = load(Example, None, PREFIX, environment={}, secrets_directory=tmp_path / "secrets")
    assert loaded.settings.name == "mounted"


def test_settings_made_directly_read_nothing_else(monkeypatch):
    monkeypatch.setenv("NAME", "environment")
    assert Example().name == "one"


def test_settings_have_a_json_schema():
    schema = json.loads(json.dumps(Example.model_json_schema()))
    assert schema["properties"]["level"]["default"] == 3
