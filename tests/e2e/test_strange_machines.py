"""Machines as they are: proxies, listen addresses, moved and copied directories, variables of Kubernetes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control_plane import ALL_SERVICES, ControlPlane


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a control plane that has been up once, with services that have all enrolled, and is down."""
    made = ControlPlane(tmp_path_factory.mktemp("original"), ALL_SERVICES)
    made.up()
    made.down()
    return made.directory


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> Iterator[ControlPlane]:
    """A copy of it, in another place, of which only the CA is started."""
    made = ControlPlane(tmp_path / "copy")
    shutil.copytree(original, made.directory, symlinks=True)
    yield made
    made.down()


@pytest.fixture
def whole_copy(copied: ControlPlane) -> ControlPlane:
    """The same with all services."""
    return ControlPlane(copied.directory, ALL_SERVICES)


def change(control_plane: ControlPlane, before: str, after: str) -> None:
    config = control_plane.state_directory.config("ca")
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after, 1))


def works(control_plane: ControlPlane) -> bool:
    return control_plane.run("profile", "list", "-q").code == 0


@pytest.mark.faults
def test_a_copy_runs_what_lies_in_it_and_never_writes_into_its_original(
    original: Path, whole_copy: ControlPlane
) -> None:
    before = {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    done = whole_copy.run("up")
    assert done.code == 0, done.err
    assert "settings now name" in done.out
    assert whole_copy.run("cert", "issue", "copy.example.test", "--out", "o", "-q").code == 0
    assert before == {path: path.read_bytes() for path in original.rglob("*") if path.is_file()}
    context = json.loads(whole_copy.state_directory.context.read_text())
    assert str(original) not in json.dumps(context)


@pytest.mark.faults
def test_a_moved_directory_goes_on_and_nothing_is_made_at_the_old_place(original: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(original, old, symlinks=True)
    moved = ControlPlane(old, ALL_SERVICES)
    text = moved.state_directory.config("ca").read_text()
    assert str(original) in text, "the copy has not been started"
    new = ControlPlane(tmp_path / "new", ALL_SERVICES)
    old.rename(new.directory)
    assert new.run("up").code == 0
    assert works(new)
    assert not old.exists()
    refused = new.run("up", "--trust-domain", "other.test")
    assert refused.code == 1
    assert "cannot be changed" in refused.err
    new.down()


@pytest.mark.faults
def test_nothing_is_made_where_a_control_plane_has_been(whole_copy: ControlPlane, tmp_path: Path) -> None:
    for service in ("ca", "membership", "credentials"):
        shutil.rmtree(whole_copy.state_directory.state(service))
    text = whole_copy.state_directory.config("ca").read_text()
    [line] = [each for each in text.splitlines() if each.startswith("state_directory:")]
    whole_copy.state_directory.config("ca").write_text(text.replace(line, f"state_directory: {tmp_path}/gone/ca"))
    done = whole_copy.run("up")
    assert done.code == 1
    assert "does not exist" in done.err
    assert not (tmp_path / "gone").exists()
    assert not whole_copy.state_directory.state("ca").exists()


@pytest.mark.faults
def test_another_listen_address_is_asked_for_health_where_it_is_and_named_in_the_context(copied: ControlPlane) -> None:
    change(copied, "  host: 127.0.0.1", '  host: "::1"')
    done = copied.run("up")
    assert done.code == 0, done.err
    assert json.loads(copied.state_directory.context.read_text())["endpoints"]["ca"][0].startswith("[::1]:")
    assert works(copied)


@pytest.mark.faults
def test_an_address_of_the_environment_is_named_in_the_context(copied: ControlPlane) -> None:
    done = copied.run("up", extra={"KEYREEVE_CA_LISTEN__HOST": "127.0.0.2"})
    assert done.code == 0, done.err
    assert json.loads(copied.state_directory.context.read_text())["endpoints"]["ca"][0].startswith("127.0.0.2:")
    assert works(copied)


@pytest.mark.faults
def test_a_proxy_is_never_asked_for_this_machine(copied: ControlPlane) -> None:
    change(copied, "  host: 127.0.0.1", '  host: "::"')
    proxy = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    done = copied.run("up", extra=proxy)
    assert done.code == 0, done.err
    status = copied.run("status", "-o", "json", extra=proxy)
    assert {each["state"] for each in status.document["services"]} == {"serving"}
    clock = [each for each in copied.run("doctor", "-o", "json", extra=proxy).document if "clock" in each["check"]]
    assert clock
    assert all(each["severity"] == "ok" for each in clock), clock


def test_the_error_of_another_host_names_the_proxy_and_its_variable(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    context = json.loads(control_plane.state_directory.context.read_text())
    for name in ("bundle", "estate_bundle", "certificate", "key"):
        context[name] = str(control_plane.state_directory.root / Path(context[name]).name)
    context["endpoints"] = {"ca": ["ca.example.test:7443"]}
    (tmp_path / "context.json").write_text(json.dumps(context))
    done = control_plane.run(
        *("profile", "list", "--context", tmp_path / "context.json"),
        extra={"https_proxy": "http://user:secret@127.0.0.1:9", "no_proxy": ""},
    )
    assert done.code == 3
    assert "127.0.0.1:9 of https_proxy" in done.err
    assert "secret" not in done.err


@pytest.mark.alone
def test_the_variables_of_a_kubernetes_service_are_no_ports(control_plane: ControlPlane) -> None:
    variables = {
        "KEYREEVE_PORT": "tcp://10.96.0.12:7443",
        "KEYREEVE_SERVICE_HOST": "10.96.0.12",
        "KEYREEVE_CA_PORT": "tcp://10.96.0.13:7443",
        "KEYREEVE_CA_SERVICE_HOST": "10.96.0.13",
        "KEYREEVE_CA_PORT_7443_TCP_ADDR": "10.96.0.13",
    }
    done = control_plane.run("up", extra=variables)
    assert done.code == 0, done.err
    assert control_plane.run("profile", "list", "-q", extra=variables).code == 0


@pytest.mark.alone
def test_a_symbolic_link_leads_to_the_control_plane_that_runs(control_plane: ControlPlane, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(control_plane.directory)
    through = ControlPlane(tmp_path / "link")
    told = [each.run("status", "-o", "json").document for each in (control_plane, through)]
    assert told[0] == told[1]
    assert {each["state"] for each in told[1]["services"]} == {"serving"}


def test_a_command_whose_package_is_missing_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(\"No module named 'typer'\", name='typer')\n")
    done = subprocess.run(
        [sys.executable, "-m", "keyreeve.cli", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        timeout=60,
    )
    assert done.returncode == 1
    assert "keyreeve[cli]" in done.stderr
    assert "Traceback" not in done.stderr
