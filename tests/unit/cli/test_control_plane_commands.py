"""Parts of `up` and `doctor` that need no running control plane."""

import contextlib
import json
import os
import random
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer

from keyreeve import Context
from keyreeve.cli.certificates.trust_checks import verify_own
from keyreeve.cli.local import control_plane_commands as machine_commands
from keyreeve.cli.local import doctor, starting
from keyreeve.cli.local.doctor import Severity
from keyreeve.cli.local.health import is_listening, is_serving
from keyreeve.cli.local.local_operator import Operator, find_operator, operator_name, update_context
from keyreeve.cli.local.moving import follow_moved_directory
from keyreeve.cli.local.restarting import replace_workers
from keyreeve.cli.local.service_problems import problems_of
from keyreeve.cli.supervision.local_services import (
    LOOPBACK,
    SERVICES,
    Service,
    choose_ports,
    is_free,
    read_addresses,
    stale_addresses,
    write_config,
)
from keyreeve.cli.supervision.state_directory import StateDirectory, write_file
from keyreeve.cli.supervision.supervisor import pid_file
from keyreeve.errors import CertificateUntrusted, FileUnusable, StartFailed
from keyreeve.identity import SpiffeId
from support.peer_certificates import TestCa

CA = SERVICES[0]


@pytest.fixture
def state_directory(tmp_path: Path) -> StateDirectory:
    made = StateDirectory.at(tmp_path / "control_plane")
    made.make()
    return made


def test_ports_are_the_usual_ones_unless_taken() -> None:
    everything = frozenset(range(1, 65_536))
    usual = choose_ports(7443, random.Random(1), everything)
    assert usual == {"port": 7443, "health_port": 7453, "metrics_port": 7463, "http_port": 7473, "enroll_port": 7483}
    moved = choose_ports(7443, random.Random(1), everything - {7453})
    assert moved["health_port"] not in {7453, *usual.values()}
    assert {name: port for name, port in moved.items() if name != "health_port"} == {
        name: port for name, port in usual.items() if name != "health_port"
    }


def test_the_local_socket_is_waited_for_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def ask() -> None:
        nonlocal now
        now += 25.0  # an attempt that takes long itself
        raise starting.NotThereYet

    monkeypatch.setattr(starting, "POLL_SECONDS", 0.0)
    with pytest.raises(StartFailed, match="local socket"):
        starting._retry_until_open(ask, lambda: now)
    assert now == 75.0


@pytest.mark.parametrize("seed", range(20))
def test_ports_by_chance_differ_and_lie_below_those_of_outgoing_connections(seed: int) -> None:
    ports = choose_ports(0, random.Random(seed), frozenset(range(20_000, 32_000)))
    assert len(set(ports.values())) == len(ports)
    assert all(20_000 <= port < 32_000 for port in ports.values())


def test_a_port_with_a_listener_is_not_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        assert not is_free(listener.getsockname()[1])


def test_settings_are_written_once_private_and_read_back_as_edited(
    state_directory: StateDirectory,
) -> None:
    assert write_config(state_directory, CA, trust_domain="a.test", first_port=0, rng=random.Random(3)) is True
    assert write_config(state_directory, CA, trust_domain="b.test", first_port=0, rng=random.Random(4)) is False
    addresses = read_addresses(state_directory, CA)
    assert addresses.trust_domain == "a.test"
    assert stat.S_IMODE(state_directory.config("ca").stat().st_mode) == 0o600
    assert stat.S_IMODE(state_directory.state("ca").stat().st_mode) == 0o700
    text = state_directory.config("ca").read_text()
    state_directory.config("ca").write_text(text.replace(f"port: {addresses.port}", "port: 9443"))
    assert read_addresses(state_directory, CA).port == 9443


def written(state_directory: StateDirectory, service: Service = CA, **endpoints: str) -> Path:
    write_config(
        state_directory, service, trust_domain="a.test", first_port=0, rng=random.Random(3), endpoints=endpoints
    )
    return state_directory.config(service.name)


def change(config: Path, before: str, after: str) -> None:
    text = config.read_text()
    assert before in text
    config.write_text(text.replace(before, after, 1))


def test_a_health_listener_may_be_a_socket_in_the_file_system_or_none(
    state_directory: StateDirectory, tmp_path: Path
) -> None:
    config, path = written(state_directory), tmp_path / "health"
    usual = read_addresses(state_directory, CA)
    assert usual.health == f"127.0.0.1:{usual.health_port}"
    change(config, "  host: 127.0.0.1\n", f"  host: 127.0.0.1\n  health_host: unix:{path}\n")
    at_socket = read_addresses(state_directory, CA)
    assert (at_socket.health, at_socket.health_port) == (f"unix:{path}", None)
    assert not is_listening(at_socket)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert is_listening(at_socket)
    change(config, f"health_port: {usual.health_port}", "health_port: null")
    without = read_addresses(state_directory, CA)
    assert without.health is None
    assert set(without.ports) == set(usual.ports) - {usual.health_port}
    assert not is_serving(without)
    with socket.create_server((LOOPBACK, without.port)):
        assert is_serving(without)


def test_a_metrics_listener_may_be_none(state_directory: StateDirectory) -> None:
    config = written(state_directory)
    usual = read_addresses(state_directory, CA)
    change(config, f"port: {usual.metrics_port}", "port: null")
    without = read_addresses(state_directory, CA)
    assert without.metrics is None
    assert problems_of(without) == []


def test_settings_of_the_environment_are_in_force(
    state_directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(state_directory)
    for name, value in {
        "HTTP__PORT": "8001",
        "ENROLL__PORT": "8002",
        "HTTP_URL": "http://ca.example.test",
        "LISTEN__HEALTH_PORT": "null",
    }.items():
        monkeypatch.setenv(f"KEYREEVE_CA_{name}", value)
    found = read_addresses(state_directory, CA)
    assert (found.http_port, found.enroll_port, found.http_url) == (8001, 8002, "http://ca.example.test")
    assert found.health_port is None


def test_the_context_follows_a_changed_port_and_url(state_directory: StateDirectory) -> None:
    config = written(state_directory)
    update_context(state_directory, (CA,))
    port = read_addresses(state_directory, CA).port
    change(config, f"  port: {port}", "  port: 9443")
    change(config, "http_url: http://127.0.0.1", "http_url: http://127.0.0.2")
    update_context(state_directory, (CA,))
    found = Context.load(state_directory.context)
    assert found.endpoints["ca"] == ("127.0.0.1:9443",)
    assert found.http.startswith("http://127.0.0.2:")


def test_an_address_that_another_service_no_longer_has_is_told(state_directory: StateDirectory) -> None:
    membership, credentials, gateway = SERVICES[1:]
    before = {"membership": "127.0.0.1:7444", "credentials": "127.0.0.1:7445"}
    for service in (credentials, gateway):
        written(state_directory, service, **before)
        assert list(stale_addresses(state_directory, service, before)) == []
    after = before | {membership.name: "127.0.0.1:9444"}
    [line] = stale_addresses(state_directory, gateway, after)
    assert line.startswith("gateway: services.membership in ")
    assert "is 127.0.0.1:7444, but membership listens on 127.0.0.1:9444" in line
    [line] = stale_addresses(state_directory, credentials, after)
    assert "vault.membership_address" in line
    change(state_directory.config("gateway"), "127.0.0.1:7444", "members.example.test:443")
    assert list(stale_addresses(state_directory, gateway, after)) == [], "one on another machine"


@pytest.mark.parametrize("lost", ["ca", "credentials"])
def test_nothing_is_made_where_a_service_of_the_context_has_lost_its_state(
    state_directory: StateDirectory, lost: str
) -> None:
    services = (SERVICES[0], SERVICES[2], SERVICES[3])
    for service in services:
        written(state_directory, service)
        (state_directory.state(service.name) / "kept").touch()
    update_context(state_directory, services)
    (state_directory.state("gateway") / "kept").unlink()  # it has only a certificate there, and enrolls again
    follow_moved_directory(state_directory, services, print)
    (state_directory.state(lost) / "kept").unlink()
    for _ in ("empty", "gone"):
        with pytest.raises(StartFailed, match=rf"(?s){lost} is empty or gone.*restore.*keyreeve reset"):
            follow_moved_directory(state_directory, services, print)
        if state_directory.state(lost).exists():
            state_directory.state(lost).rmdir()
    assert not state_directory.state(lost).exists()
    state_directory.context.unlink()
    follow_moved_directory(state_directory, services, print)


@pytest.mark.parametrize("text", ["- a list", "listen: {host: 127.0.0.1}", "a: b: c", "listen: 3"])
def test_settings_that_cannot_be_read_are_reported_with_their_file(state_directory: StateDirectory, text: str) -> None:
    state_directory.config("ca").write_text(text)
    with pytest.raises(FileUnusable, match=r"ca\.yaml"):
        read_addresses(state_directory, CA)


def test_a_port_that_another_program_took_meanwhile_stops_the_start(
    state_directory: StateDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting, "PORT_SECONDS", 0.0)
    write_config(state_directory, CA, trust_domain="a.test", first_port=0, rng=random.Random(5))
    with (
        socket.create_server((LOOPBACK, read_addresses(state_directory, CA).port)),
        pytest.raises(StartFailed, match="another program"),
    ):
        starting.wait_for_ports(state_directory)


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("alice", "alice"),
        ("Alice Müller", "alice-m-ller"),
        ("DOMAIN\\bob", "domain-bob"),
        ("...", "admin"),
        ("x" * 99, "x" * 63),
    ],
)
def test_a_login_name_becomes_the_last_part_of_an_identity(login: str, name: str) -> None:
    assert operator_name(login) == name
    SpiffeId.parse(f"spiffe://dev.localhost/operators/admin/{name}")


def test_a_certificate_is_renewed_in_the_last_third_of_its_life() -> None:
    begin = datetime(2031, 1, 1, tzinfo=UTC)
    person = Operator("spiffe://x/operators/admin/a", begin, begin + timedelta(hours=12))
    assert not person.wants_renewal(begin + timedelta(hours=7, minutes=59))
    assert person.wants_renewal(begin + timedelta(hours=8))
    assert person.wants_renewal(begin + timedelta(hours=13))


def test_a_certificate_from_another_root_is_refused_by_the_second_library() -> None:
    ours, other = TestCa.root("ours"), TestCa.root("ours")
    person = ours.person("operators/admin/ann")
    with pytest.raises(CertificateUntrusted):
        verify_own(other.pem.decode(), person.pem.decode(), "", datetime.now(UTC))


def test_an_operator_without_a_readable_certificate_is_nobody(state_directory: StateDirectory) -> None:
    assert find_operator(state_directory) is None
    state_directory.certificate.write_text("no certificate")
    assert find_operator(state_directory) is None


def test_doctor_reports_keys_that_others_can_read(state_directory: StateDirectory) -> None:
    state_directory.state("ca").mkdir(mode=0o700)
    write_file(state_directory.state("ca") / "kek", b"x" * 32, mode=0o600)
    assert [finding.severity for finding in doctor.check_modes(state_directory)] == [Severity.OK]
    (state_directory.state("ca") / "kek").chmod(0o644)
    state_directory.root.chmod(0o777)
    findings = list(doctor.check_modes(state_directory))
    assert {finding.severity for finding in findings} == {Severity.ERROR}
    assert any(str(state_directory.state("ca") / "kek") in finding.fix for finding in findings)
    for finding in findings:
        assert os.system(finding.fix) == 0  # what it says helps
    assert [finding.severity for finding in doctor.check_modes(state_directory)] == [Severity.OK]


def test_doctor_shows_what_to_do_about_whatever_the_service_warns_of(
    state_directory: StateDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [(True, "", "fine"), (True, "do z", "might break"), (False, "do w", "broken")]
    rows = [{"check": "x", "ok": ok, "message": message, "fix": fix} for ok, fix, message in told]
    monkeypatch.setattr(doctor, "ask", lambda *_, **__: rows)
    findings = list(doctor.check_by_service(state_directory, CA))
    assert [finding.severity for finding in findings] == [Severity.OK, Severity.WARNING, Severity.ERROR]
    monkeypatch.setattr(doctor, "examine", lambda *_: doctor.told_once({"ca": findings}))
    write_file(state_directory.config("ca"), b"{}", mode=0o600)
    with pytest.raises(typer.Exit):
        machine_commands.doctor(state_directory.root)
    assert capsys.readouterr().out == (
        "✔ ca x: fine\n! ca x: might break\n    fix: do z\n✘ ca x: broken\n    fix: do w\n"
    )


@pytest.mark.parametrize(
    ("age", "severity"),
    [
        (timedelta(hours=1), Severity.OK),
        (timedelta(hours=9), Severity.WARNING),
        (timedelta(hours=13), Severity.ERROR),
        (timedelta(hours=-1), Severity.ERROR),
    ],
)
def test_doctor_reports_the_expiry_of_your_certificate(
    state_directory: StateDirectory, age: timedelta, severity: Severity
) -> None:
    now = datetime(2031, 5, 4, tzinfo=UTC)
    root = TestCa.root("root")
    leaf = root.leaf(
        uris=["spiffe://example.test/operators/admin/ann"],
        not_before=now - age,
        not_after=now - age + timedelta(hours=12),
    )
    state_directory.certificate.write_bytes(leaf.pem)
    finding = next(iter(doctor.check_certificate(state_directory, now)))
    assert finding.severity is severity
    assert finding.fix if severity is not Severity.OK else not finding.fix


# --- Restarting ---------------------------------------------------------------------------------------------------------

MANAGER = """
import json, os, pathlib, signal, sys
answer, refused = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
def replace(*_):
    if refused == "die":
        os._exit(1)
    answer.write_text(json.dumps({"number": 8, "refused": refused}))
signal.signal(signal.SIGHUP, replace)
print("listening", flush=True)
while True:
    signal.pause()
"""


@contextlib.contextmanager
def manager_that(state_directory: StateDirectory, refused: str | None) -> Iterator[None]:
    """A process that passes for the CA's manager: told to replace its workers, it says that it did, or why not."""
    answer = state_directory.state("ca") / "run/replaced.json"
    answer.parent.mkdir(parents=True)
    answer.write_text(json.dumps({"number": 7, "refused": "an answer of long ago"}))
    command = [
        sys.executable,
        "-P",
        "-c",
        MANAGER,
        str(answer),
        json.dumps(refused),
        *CA.marker(state_directory).split(),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        pid_file(state_directory, CA).write_text(str(process.pid))
        try:
            yield
        finally:
            process.kill()


def test_restarting_waits_until_the_service_has_answered(state_directory: StateDirectory) -> None:
    with manager_that(state_directory, None):
        assert replace_workers(state_directory) == ["ca"]


def test_why_the_workers_were_not_replaced_is_reported(state_directory: StateDirectory) -> None:
    with (
        manager_that(state_directory, "drain_seconds changed"),
        pytest.raises(StartFailed, match="drain_seconds changed"),
    ):
        replace_workers(state_directory)


def test_a_service_that_ends_instead_of_replacing_its_workers_is_not_waited_for(
    state_directory: StateDirectory,
) -> None:
    with manager_that(state_directory, "die"), pytest.raises(StartFailed, match="ended"):
        replace_workers(state_directory)


def test_what_does_not_run_cannot_be_restarted(state_directory: StateDirectory) -> None:
    with pytest.raises(StartFailed, match="does not run"):
        replace_workers(state_directory)
