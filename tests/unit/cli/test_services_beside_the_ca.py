"""`keyreeve up` with other services beside the CA: order, tokens, restarts, and what `status` and `doctor` say.

All programs are fakes, and real processes.
"""

import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.local_service import journal
from keyreeve import Context
from keyreeve.cli.local import doctor, starting
from keyreeve.cli.local.local_operator import Operator, update_context
from keyreeve.cli.local.local_status import manager_of, service_records, status, supervisor_of
from keyreeve.cli.local.starting import bring_up
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision import service_launcher, supervisor
from keyreeve.cli.supervision.local_services import SERVICES, Addresses, Service, read_addresses, read_config
from keyreeve.cli.supervision.service_launcher import Launcher
from keyreeve.cli.supervision.service_program import require_module
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.cli.supervision.supervisor import start_command
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.errors import PackageMissing, StartFailed
from keyreeve.service_files import identity_directory, token_file
from support.peer_certificates import TestCa
from support.waiting import wait_for

CA = Service("ca", "fakes.local_ca", 0)
INVENTORY = Service("inventory", "fakes.enrolling_service", 1)
BILLING = Service("billing", "fakes.enrolling_service", 2, has_database=False)
TABLE = (CA, INVENTORY, BILLING)


class Machine:
    """A state directory, and the control plane of fakes that is brought up in it."""

    def __init__(self, root: Path) -> None:
        self.state_directory = StateDirectory.at(root / ".keyreeve")
        self.reports: list[str] = []
        self.supervisors: list[subprocess.Popen[bytes]] = []

    def up(self, services: tuple[Service, ...] = TABLE) -> None:
        bring_up(
            self.state_directory,
            trust_domain="dev.localhost",
            first_port=0,
            report=self.reports.append,
            services=services,
        )

    def down(self, services: tuple[Service, ...] = TABLE) -> None:
        take_down(self.state_directory, services)

    def journal(self) -> list[str]:
        return journal(self.state_directory.root)

    def since(self, before: list[str]) -> list[str]:
        """What has happened since the journal was read."""
        return self.journal()[len(before) :]

    def pid(self, service: Service) -> int | None:
        manager = manager_of(self.state_directory, service)
        if manager is None:
            return None
        manager.close()
        return manager.pid

    def expire(self, service: Service) -> None:
        """Let the certificate of a service have expired yesterday."""
        now = datetime.now(UTC)
        files = EnrolleeFiles(identity_directory(self.state_directory.state(service.name)))
        leaf = TestCa.root("control").leaf(not_before=now - timedelta(days=30), not_after=now - timedelta(days=1))
        files.certificate.write_bytes(leaf.pem)

    def states(self) -> dict[str, str]:
        services = status(self.state_directory, TABLE)["services"]
        return {service["service"]: service["state"] for service in services}


@contextmanager
def fakes_in(directory: Path) -> Iterator[Machine]:
    """A machine whose control plane is stopped at the end."""
    begin = datetime.now(UTC)
    ann = Operator("spiffe://dev.localhost/operators/admin/ann", begin, begin + timedelta(hours=12))
    made, launch = Machine(directory), supervisor.launch

    def kept(*arguments: Any) -> subprocess.Popen[bytes]:
        made.supervisors.append(launch(*arguments))
        return made.supervisors[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setattr(starting, "_ensure_operator", lambda *_: (ann, False))
        patch.setattr(supervisor, "launch", kept)
        try:
            yield made
        finally:
            made.down()
            for program in made.supervisors:
                program.wait(10)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Machine]:
    """A machine where nothing was brought up yet."""
    with fakes_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def first_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with fakes_in(tmp_path_factory.mktemp("machine")) as made:
        made.state_directory.make()
        (made.state_directory.root / "together").write_text("inventory billing")
        made.up()
        yield made


@pytest.fixture
def machine(first_up: Machine) -> Machine:
    """A machine on which everything runs; the journal begins with the first start."""
    first_up.up()
    return first_up


def test_the_ca_serves_first_then_every_other_service_gets_a_token_and_all_start_together(machine: Machine) -> None:
    events = machine.journal()
    assert events[0] == "ca serves"
    gives = [event for event in events if event.startswith("ca gives")][:2]
    assert sorted(event.partition("-for-")[2] for event in gives) == ["billing/local", "inventory/local"]
    for name in ("inventory", "billing"):
        enrolls = next(event for event in events if event.startswith(f"{name} enrolls"))
        assert f"-for-{name}/local in a file of mode 600" in enrolls
        assert not token_file(machine.state_directory.state(name)).exists()
    assert machine.states() == {"ca": "serving", "inventory": "serving", "billing": "serving"}
    assert "database" not in read_config(machine.state_directory.config("billing"))
    assert "database" in read_config(machine.state_directory.config("inventory"))


def test_a_service_with_a_good_certificate_gets_no_second_token(machine: Machine) -> None:
    before, first = machine.journal(), machine.pid(INVENTORY)
    restarts = service_records(machine.state_directory)["inventory"]["restarts"]
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for("it serves again", lambda: "inventory serves" in machine.since(before))
    assert machine.pid(INVENTORY) not in {None, first}
    assert service_records(machine.state_directory)["inventory"]["restarts"] == restarts + 1
    assert not [event for event in machine.since(before) if "token" in event]


def test_up_enrolls_services_again_whose_certificates_have_expired_while_they_ran(machine: Machine) -> None:
    before, ca, billing = machine.journal(), machine.pid(CA), machine.pid(BILLING)
    machine.expire(INVENTORY)
    machine.up()
    events = [event for event in machine.since(before) if event.startswith("inventory")]
    assert events[:2] == ["inventory stopped", "inventory started"]
    assert "-for-inventory/local" in events[2]
    assert events[3] == "inventory serves"
    assert "the certificate of inventory has expired; restarting it" in machine.reports
    assert (machine.pid(CA), machine.pid(BILLING)) == (ca, billing)


def test_the_ca_stops_last_and_up_enrolls_services_whose_certificates_have_expired_meanwhile(machine: Machine) -> None:
    before = machine.journal()
    machine.down()
    stopped = machine.since(before)
    assert sorted(stopped) == ["billing stopped", "ca stopped", "inventory stopped"]
    assert stopped[-1] == "ca stopped"
    assert set(machine.states().values()) == {"stopped"}

    machine.expire(INVENTORY)
    before = machine.journal()
    machine.up()
    tokens = [event for event in machine.since(before) if event.startswith("ca gives")]
    assert [token.partition("-for-")[2] for token in tokens] == ["inventory/local"]
    assert machine.states() == dict.fromkeys(("ca", "inventory", "billing"), "serving")


def test_without_its_supervisor_the_ca_is_stopped_last_too(machine: Machine) -> None:
    running, before = supervisor_of(machine.state_directory), machine.journal()
    assert running is not None
    running.stop(signal.SIGKILL)
    assert running.wait(10)
    running.close()
    machine.down()
    assert sorted(machine.since(before)[:2]) == ["billing stopped", "inventory stopped"]
    assert machine.since(before)[2] == "ca stopped"


def test_doctor_checks_every_service_and_reports_an_expired_certificate(machine: Machine) -> None:
    machine.expire(BILLING)
    now = datetime.now(UTC)
    found = {finding.check: finding for finding in doctor.examine(machine.state_directory, now, TABLE)}
    assert found["inventory health"].severity is doctor.Severity.OK
    assert found["inventory certificate"].severity is doctor.Severity.OK
    assert found["billing certificate"].severity is doctor.Severity.ERROR
    assert "expired" in found["billing certificate"].message
    assert found["billing certificate"].fix == "keyreeve up"
    assert "ca certificate" not in found
    assert {f"{service.name} tables" for service in TABLE} <= found.keys()
    assert found["file modes"].severity is doctor.Severity.OK
    key = EnrolleeFiles(identity_directory(machine.state_directory.state("inventory"))).key
    key.chmod(0o644)
    [modes] = doctor.check_modes(machine.state_directory, TABLE)
    key.chmod(0o600)
    assert modes.severity is doctor.Severity.ERROR
    assert str(key) in modes.message


def test_a_token_that_cannot_be_had_fails_the_start_with_the_reason(empty: Machine) -> None:
    empty.state_directory.make()
    (empty.state_directory.root / "refuse-tokens").touch()
    with pytest.raises(StartFailed, match=r"the inventory service ended: exit code 1(?s:.)*TOKEN_NOT_ALLOWED"):
        empty.up((CA, INVENTORY))
    assert empty.pid(CA) is None
    assert not empty.state_directory.config("inventory").exists()


def test_a_service_that_is_added_later_joins_what_is_there(empty: Machine) -> None:
    empty.state_directory.make()
    starting._write_configs(empty.state_directory, (CA,), trust_domain="first.localhost", first_port=0)
    before = empty.state_directory.config("ca").read_text()
    assert not starting._write_configs(
        empty.state_directory, (CA, INVENTORY), trust_domain="dev.localhost", first_port=0
    )
    assert empty.state_directory.config("ca").read_text() == before
    addresses = [read_addresses(empty.state_directory, service) for service in (CA, INVENTORY)]
    assert addresses[1].trust_domain == "first.localhost"
    assert len({*addresses[0].ports, *addresses[1].ports}) == 8
    assert addresses[1].http_url == ""


def test_the_context_gets_the_addresses_of_services_that_are_added_and_keeps_those_elsewhere(empty: Machine) -> None:
    empty.state_directory.make()
    starting._write_configs(empty.state_directory, (CA, INVENTORY), trust_domain="dev.localhost", first_port=0)
    update_context(empty.state_directory, (CA,))
    file = empty.state_directory.context
    document = json.loads(file.read_text())
    document["endpoints"]["gateway"] = ["gateway.example.test:443"]
    file.write_text(json.dumps(document))
    update_context(empty.state_directory, (CA, INVENTORY))
    endpoints = Context.load(file).endpoints
    assert endpoints["gateway"] == ("gateway.example.test:443",)
    assert endpoints["inventory"] == (read_addresses(empty.state_directory, INVENTORY).endpoint,)
    written = file.stat().st_mtime_ns
    update_context(empty.state_directory, (CA,))
    assert file.stat().st_mtime_ns == written


def test_the_ca_alone_is_started_as_its_own_program(tmp_path: Path) -> None:
    state_directory = StateDirectory.at(tmp_path)
    ca = SERVICES[0]
    assert start_command(state_directory, ca, (ca,)) == ca.arguments(state_directory)
    assert ca.marker(state_directory) in " ".join(ca.arguments(state_directory))
    launched = start_command(state_directory, INVENTORY, TABLE)
    assert launched[-len(INVENTORY.arguments(state_directory)) :] == INVENTORY.arguments(state_directory)
    assert INVENTORY.marker(state_directory) in " ".join(launched)


# --- The first step of a service ----------------------------------------------------------------------------------------


@pytest.fixture
def launcher(empty: Machine, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """That of a service whose CA never serves; each look at the clock is a second later."""
    empty.state_directory.make()
    starting._write_configs(empty.state_directory, TABLE, trust_domain="dev.localhost", first_port=0)
    seconds = iter(range(10_000))
    monkeypatch.setattr(service_launcher, "POLL_SECONDS", 0.0)
    return Launcher(empty.state_directory, "inventory", CA, clock=lambda: float(next(seconds)))


def test_a_service_without_a_certificate_does_not_start_without_the_ca(launcher: Launcher) -> None:
    with pytest.raises(StartFailed, match="the CA does not serve after 60 s"):
        launcher.prepare()
    assert not token_file(launcher.state_directory.state("inventory")).exists()


def test_a_service_with_a_good_certificate_starts_without_the_ca(
    launcher: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    files = EnrolleeFiles(identity_directory(launcher.state_directory.state("inventory")))
    files.directory.mkdir()
    files.certificate.write_bytes(TestCa.root("control").service("inventory").pem)
    launcher.prepare()
    assert "starting without the CA" in capsys.readouterr().out
    assert not token_file(launcher.state_directory.state("inventory")).exists()


def test_a_ca_whose_local_socket_is_not_open_yet_fails_the_start(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: Any, **__: Any) -> Any:
        raise service_launcher.NotThereYet

    def serves(_: Addresses) -> bool:
        return True

    monkeypatch.setattr(service_launcher, "ask", ask)
    monkeypatch.setattr(service_launcher, "is_serving", serves)
    monkeypatch.setattr(service_launcher, "is_listening", serves)
    with pytest.raises(StartFailed, match="local socket does not answer"):
        launcher.prepare()


@pytest.mark.parametrize("missing", ["structlog", "keyreeve_ca"])
def test_missing_packages_are_named_with_their_extra_before_anything_starts(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(PackageMissing, match=r"pip install 'keyreeve\[server,cli\]'"):
        require_module("keyreeve_ca")
