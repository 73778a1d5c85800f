"""kill -9 of the client, the gateway or a service in the middle of a verb: the state is before it or after it, and shown."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keyreeve.cli.supervision.local_services import SERVICES
from keyreeve.cli.supervision.processes import read_pid
from keyreeve.cli.supervision.supervisor import pid_file
from keyreeve.file_values import FileSpace
from keyreeve.membership_values import Server
from keyreeve.plaintext import Plaintext
from support.control_plane import ALL_SERVICES, ControlPlane
from support.legacy_processes import LegacyShell
from support.local_servers import Servers
from support.uploaded_files import PASSPHRASE, uploaded
from support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
LINES = 600
"""Of a batch: enough for a kill to come in the middle."""
CHANGING = "The array is being changed"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with all services, whose processes are killed."""
    made = ControlPlane(tmp_path_factory.mktemp("plane"), ALL_SERVICES)
    try:
        made.up()
        yield made
    finally:
        made.down()


def kill(plane: ControlPlane, victim: str, client: "subprocess.Popen[str]") -> None:
    """Kill the process of a verb, or a service, which the supervisor starts again."""
    if victim == "client":
        client.kill()
        return
    [service] = [one for one in SERVICES if one.name == victim]
    pid = read_pid(pid_file(plane.state_directory, service))
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(f"{victim} has been started again", lambda: read_pid(pid_file(plane.state_directory, service)) != pid)


def ended(client: "subprocess.Popen[str]") -> str:
    """What a command printed until its end, which it says plainly."""
    printed, _ = client.communicate(timeout=100)
    assert client.returncode in {0, 1, -signal.SIGKILL}, printed
    assert "Traceback" not in printed
    assert "internal error" not in printed
    return printed


def answers(shell: LegacyShell, *command: str) -> str:
    """The output of a command, as soon as the services answer again."""
    done = wait_for(f"an answer to {command}", lambda: found if not (found := shell.run(*command)).returncode else None)
    return done.stdout


@pytest.mark.parametrize("victim", ["client", "gateway", "credentials"])
def test_a_batch_that_is_killed_has_stored_whole_entries_and_can_be_repeated(
    plane: ControlPlane, tmp_path: Path, victim: str
) -> None:
    name = f"core-{uuid.uuid4().hex[:8]}.example.test"
    shell = LegacyShell(plane.state_directory.context).on(name)
    hosts = [f"host-{number:03}.example.test" for number in range(LINES)]
    batch = tmp_path / "entries.txt"
    batch.write_text("".join(f"--anon --resource .../_dns/{one} --resuser guest --respass of-{one}\n" for one in hosts))
    with plane.client() as client:
        array = client.membership.arrays.create(Server(name, "127.0.0.1:5427", "5.40")).name

        def stored() -> list[str]:
            return [entry.resource.rpartition("/")[2] for entry in client.credentials.entries.list(array)]

        with shell.begun("tarantella", "passcache", "new", "--file", str(batch)) as command:
            wait_for("some entries", stored)
            kill(plane, victim, command)
            ended(command)
        listed = answers(shell, "tarantella", "passcache", "list").splitlines()
        assert 0 < len(listed) < LINES or victim == "credentials"  # whose client goes on with the next line
        assert set(listed) <= {f'--anon --resource ".../_dns/{one}" --resuser "guest"' for one in hosts}
        shell.run("tarantella", "passcache", "new", "--file", str(batch))
        assert sorted(stored()) == hosts
        for one in random.Random(victim).sample(hosts, 5):
            [entry] = client.credentials.entries.list(array, resource=f".../_dns/{one}")
            assert client.credentials.entries.reveal(entry.name, purpose="support").secret.text() == f"of-{one}"


@pytest.mark.parametrize("victim", ["client", "gateway", "credentials"])
def test_a_conversion_that_is_killed_leaves_the_pkcs12_or_the_ssh_key_and_can_be_repeated(
    plane: ControlPlane, victim: str
) -> None:
    name = f"core-{uuid.uuid4().hex[:8]}.example.test"
    shell = LegacyShell(plane.state_directory.context).on(name)
    convert, passphrase = ("mmp", "pki", "pkcs12-to-ssh", "bill"), f"{PASSPHRASE.decode()}\n"
    pkcs12, database = uploaded("pkcs12"), plane.state_directory.state("credentials") / "credentials.db"
    with plane.client() as client, closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as rows:
        array = client.membership.arrays.create(Server(name, "127.0.0.1:5427", "5.40")).name
        space, files = FileSpace(array, name), client.credentials.files
        files.put(space, "bill.pub", Plaintext(pkcs12))

        def taken_apart() -> bool:
            found = "SELECT count(*) FROM key_files WHERE server = ? AND name LIKE 'pkcs12-to-ssh-%'"
            return bool(rows.execute(found, (name,)).fetchone()[0])

        def is_converted() -> bool:
            contents = files.get(space, "bill.pub", purpose="support").contents.reveal()
            assert contents == pkcs12 or contents.startswith(b"ecdsa-sha2-nistp256 ")
            return contents != pkcs12

        with shell.begun(*convert, given=passphrase) as command:
            while not taken_apart():  # without a pause: the files are there for some milliseconds
                assert command.poll() is None, ended(command)
            kill(plane, victim, command)
            ended(command)
        listed = answers(shell, "mmp", "pki", "list").splitlines()[1:]
        assert set(listed) == {file.file for file in files.list(space)}
        shown = answers(shell, "mmp", "pki", "inspect", "bill.pub")
        assert ("public key" in shown) is is_converted(), shown
        repeated = shell.run(*convert, given=passphrase)
        assert is_converted(), repeated.stderr
        assert not taken_apart(), listed


def test_a_change_of_an_array_that_is_killed_is_shown_and_carried_through(plane: ControlPlane, tmp_path: Path) -> None:
    servers = Servers(plane, tmp_path)
    try:
        one, two, three = (agent.name for agent in servers.all)
        shell = LegacyShell(plane.state_directory.context).on(one)
        arrays, array = servers.client.membership.arrays, servers.array_of(servers.all[0])
        accepted = re.search(r"Fingerprint: ([0-9A-F:]{95})", shell.out("tarantella", "security", "peerca", "--show"))
        assert accepted is not None
        join = ("tarantella", "array", "join", "--primary", one, "--fingerprint", accepted[1], "--secondary")
        changes = (
            ("client", (*join, two), [[one], [one, two]]),
            ("gateway", (*join, three), [[one, two], [one, two, three]]),
            (
                "membership",
                ("tarantella", "array", "make_primary", "--secondary", two),
                [[one, two, three], [two, one, three]],
            ),
        )
        for victim, command, states in changes:
            with shell.on(three).begun(*command) as process:
                wait_for("the change has begun", lambda: arrays.get(array).change or process.poll() is not None)
                assert process.poll() is None, ended(process)
                kill(plane, victim, process)
                shown = answers(shell, "tarantella", "status")
                assert members(shown) in states, shown
                assert CHANGING in shown or members(shown) == states[-1], shown
                ended(process)
            wait_for("the change has ended", lambda: CHANGING not in answers(shell, "tarantella", "status"))
            assert members(answers(shell, "tarantella", "status")) == states[-1]
    finally:
        servers.stop()


def members(status: str) -> list[str]:
    """The servers of an array, the primary first."""
    return [line.split()[1] for line in status.splitlines() if re.match(r"  - \S+ \((primary|secondary)\)", line)]
