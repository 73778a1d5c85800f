"""First starts whose note is in a Secret: no state directory survives a pod, and no second root is ever made."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyreeve.errors import WrongDatabase
from keyreeve.keys import make_key
from keyreeve_ca.authorities.trust_metadata import create_recovery_key_file
from keyreeve_ca.settings import BootstrapSettings, CaKeySettings, CaSettings
from keyreeve_chassis.keys.ports import KeyStoreError
from keyreeve_chassis.keys.sealed import create_kek_file
from keyreeve_chassis.processes.refusals import StartRefused
from support.running_ca import ADMIN, RunningCa, place_for_ca
from support.token_reviews import ApiServer, api_server

NOTE = "/api/v1/namespaces/control/secrets/keyreeve-control-plane"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api")) as server:
        yield server


@pytest.fixture
def api(server: ApiServer) -> ApiServer:
    server.answers = 201
    server.objects.clear()
    server.objects[NOTE] = {"kind": "Secret", "metadata": {"name": "keyreeve-control-plane"}}
    return server


@pytest.fixture
def release(api: ApiServer, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CaSettings]:
    """The settings of a pod, with mounted keys."""
    create_kek_file(tmp_path / "kek")
    create_recovery_key_file(tmp_path / "recovery")
    with place_for_ca("sqlite", request) as (_, settings):
        yield settings.model_copy(
            update={
                "keys": CaKeySettings(file=tmp_path / "kek", recovery_file=tmp_path / "recovery", mounted=True),
                "bootstrap": BootstrapSettings(
                    secret="control/keyreeve-control-plane",
                    api_url=api.url,
                    api_ca_file=api.ca_file,
                    api_token_file=api.token_file,
                ),
            }
        )


def start(settings: CaSettings) -> bytes:
    """Start a CA, let it issue, stop it; return its control root."""
    ca = RunningCa(settings, settings.state_directory, 0)
    try:
        ca.start()
        ca.issue(ADMIN, make_key())
        [root] = [one for one in ca.read(lambda tx: tx.authorities()) if one.authority_id == "control-root-1"]
        return root.certificate_der
    finally:
        ca.stop()


def lose_database(settings: CaSettings) -> None:
    for path in settings.state_directory.glob("ca.db*"):
        path.unlink()


def note(api: ApiServer) -> dict[str, str]:
    found: dict[str, str] = json.loads(base64.b64decode(api.objects[NOTE]["data"]["control-plane.json"]))
    return found


def test_the_first_start_notes_database_and_roots_and_later_ones_go_on(api: ApiServer, release: CaSettings) -> None:
    root = start(release)
    noted = note(api)
    assert "control-root-1 SHA-256 " in noted["roots"]
    assert "estate-root-1 SHA-256 " in noted["roots"]
    assert not (release.state_directory / "control-plane.json").exists()
    assert start(release) == root
    assert note(api) == noted


def test_an_empty_database_is_never_bootstrapped_again(api: ApiServer, release: CaSettings) -> None:
    start(release)
    noted = note(api)
    lose_database(release)
    with pytest.raises(WrongDatabase, match="control/keyreeve-control-plane"):
        start(release)
    assert note(api) == noted


@pytest.mark.parametrize("answers", [403, 503])
def test_a_note_that_cannot_be_read_stops_the_first_start(api: ApiServer, release: CaSettings, answers: int) -> None:
    api.answers = answers
    with pytest.raises(StartRefused, match=str(answers)):
        start(release)
    api.answers = 201
    assert "data" not in api.objects[NOTE]
    start(release)


def test_a_note_that_is_missing_stops_the_first_start(api: ApiServer, release: CaSettings) -> None:
    del api.objects[NOTE]
    with pytest.raises(StartRefused, match="404"):
        start(release)


def test_a_first_start_that_is_not_allowed_makes_nothing(release: CaSettings) -> None:
    refusing = release.model_copy(update={"bootstrap": release.bootstrap.model_copy(update={"allowed": False})})
    with pytest.raises(StartRefused, match=r"bootstrap\.allowed"):
        start(refusing)
    root = start(release)
    assert start(refusing) == root, "it refuses first starts alone"


def test_a_mounted_recovery_key_is_required_once_and_never_made(release: CaSettings) -> None:
    file = release.recovery_key_file
    kept = file.read_bytes()
    file.unlink()
    with pytest.raises(KeyStoreError, match="recovery key"):
        start(release)
    assert not file.exists()
    file.write_bytes(kept)
    file.chmod(0o400)
    root = start(release)
    file.unlink()
    assert start(release) == root
