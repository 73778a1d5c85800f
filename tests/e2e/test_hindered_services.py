"""A control plane whose database is away or whose issuance is halted says so; its removal leaves nothing in PostgreSQL."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from support.control_plane import ControlPlane
from support.postgres import Server, own_server
from support.waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Iterator[Server]:
    with own_server() as started:
        started.execute("CREATE DATABASE plane")
        yield started


def schemas(server: Server) -> list[str]:
    with psycopg.connect(server.url("plane")) as connection:
        found = connection.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'keyreeve%'").fetchall()
    return [name for (name,) in found]


@pytest.mark.faults
def test_status_and_doctor_say_that_postgresql_is_away_and_reset_removes_what_was_made(
    server: Server, own_control_plane: ControlPlane
) -> None:
    plane = own_control_plane
    plane.configure(server.url("plane"))
    plane.up()
    assert plane.run("status").code == 0
    server.kill()

    def says_so() -> bool:
        status = plane.run("status")
        return status.code == 1 and "ca: its database does not answer" in status.out

    wait_for("status says that the database is away", says_so)
    doctor = plane.run("doctor")
    assert doctor.code == 1
    [line] = [each for each in doctor.out.splitlines() if "ca database" in each]
    assert line.startswith("✘ ca database: PostgreSQL ")
    assert line.endswith("/plane does not answer: nothing is issued or changed until it does")

    server.start()
    wait_for("status says nothing any more", lambda: plane.run("status").code == 0)
    assert schemas(server) == ["keyreeve_ca"]
    reset = plane.run("reset", "--force")
    assert (reset.code, "the schema keyreeve_ca of PostgreSQL" in reset.out) == (0, True), reset.out + reset.err
    assert schemas(server) == []
    assert not plane.state_directory.root.exists()


@pytest.mark.faults
@pytest.mark.alone
def test_halted_issuance_is_said_by_status_and_doctor(control_plane: ControlPlane) -> None:
    assert control_plane.run("issuance", "halt", "--reason", "a test of status").code == 0
    try:
        wait_for("status says that issuance is halted", lambda: "issuance is halted" in control_plane.run("status").out)
        status, doctor = control_plane.run("status"), control_plane.run("doctor")
        made = subprocess.run(
            ["make", "-f", ROOT / "Makefile", "-o", ".venv/.run", f"BIN={Path(sys.executable).parent}", "status"],
            cwd=control_plane.directory,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        control_plane.run("issuance", "resume", "--reason", "the test is over")
    assert status.code == 1
    assert doctor.code == 1
    assert "a test of status" in doctor.out
    assert "Error" not in made.stderr
    wait_for("status says nothing any more", lambda: control_plane.run("status").code == 0)
    calm = control_plane.run("doctor").out.splitlines()
    assert sum("clock: " in line for line in calm) == 1
    assert sum("sqlite: " in line for line in calm) == 1
