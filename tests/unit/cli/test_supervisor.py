"""The supervisor on real processes, with an idle service instead of the CA."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyreeve.cli.local.local_status import service_records
from keyreeve.cli.local.stopping import take_down
from keyreeve.cli.supervision import supervisor
from keyreeve.cli.supervision.local_services import Service
from keyreeve.cli.supervision.processes import Lock, find, read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory
from support.waiting import wait_for

IDLE = Service("ca", "fakes.idle_service", 0)
PROGRAM = """
import sys
from pathlib import Path
from keyreeve.cli.supervision.local_services import Service
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.cli.supervision import supervisor
from keyreeve.cli.supervision.supervisor import Supervisor
supervisor.LOG_CHECK_SECONDS = 0.05
sys.exit(Supervisor(StateDirectory(Path(sys.argv[1])), [Service("ca", "fakes.idle_service", 0)]).run())
"""


class Supervised:
    """A state directory with an idle service, and the supervisors that were started on it."""

    def __init__(self, root: Path) -> None:
        self.state_directory = StateDirectory.at(root / "control_plane")
        self.state_directory.make()
        self.state_directory.config("ca").write_text("idle\n")
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.state_directory.root)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.DEVNULL,
        )
        self.programs.append(program)
        return program

    def service_pid(self, other_than: int = 0) -> int:
        """The id of the service's process, once it runs (and is another one than before)."""

        def look() -> int | None:
            pid = read_pid(supervisor.pid_file(self.state_directory, IDLE))
            running = find(pid, IDLE.marker(self.state_directory)) if pid != other_than else None
            if running is None:
                return None
            running.close()
            return running.pid

        return wait_for("the service runs", look)

    def stop(self) -> None:
        for program in self.programs:
            program.terminate()
            program.wait(30)
        running = find(read_pid(supervisor.pid_file(self.state_directory, IDLE)), IDLE.marker(self.state_directory))
        if running is not None:
            running.stop(signal.SIGKILL)
            running.wait(10)
            running.close()


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    made = Supervised(tmp_path)
    yield made
    made.stop()


def test_a_service_that_dies_is_started_again(supervised: Supervised) -> None:
    supervised.start()
    first = supervised.service_pid()
    os.kill(first, signal.SIGKILL)
    assert supervised.service_pid(other_than=first) != first
    known = wait_for("the supervisor tells of it", lambda: service_records(supervised.state_directory).get("ca"))
    assert known["restarts"] == 1
    assert known["last_end"] == "killed by SIGKILL"


def test_a_log_that_grows_large_is_put_aside_while_its_writer_goes_on(supervised: Supervised) -> None:
    supervised.start()
    service = supervised.service_pid()
    log = supervised.state_directory.log("ca")
    started = log.with_suffix(".log.start")
    with log.open("ab") as writer:
        writer.write(b"ready\n")
        writer.flush()
        writer.truncate(supervisor.LARGEST_LOG + 1)
        wait_for("it has been emptied", lambda: log.stat().st_size <= supervisor.LARGEST_LOG)
        assert log.with_suffix(".log.1").stat().st_size == supervisor.LARGEST_LOG + 1
        assert b"ready\n" in started.read_bytes()
        writer.truncate(supervisor.LARGEST_LOG + 1)
        wait_for("it has been emptied again", lambda: log.stat().st_size <= supervisor.LARGEST_LOG)
        assert b"ready\n" in started.read_bytes()
        writer.write(b"goes on\n")
        writer.flush()
    assert log.read_bytes().endswith(b"goes on\n")
    assert log.stat().st_size < 10_000
    assert supervised.service_pid() == service


def test_a_second_supervisor_on_the_same_directory_refuses(supervised: Supervised) -> None:
    first = supervised.start()
    supervised.service_pid()
    assert supervised.start().wait(30) == supervisor.REFUSED
    assert Lock(supervisor.lock_file(supervised.state_directory)).holder() == first.pid


def test_a_lookup_of_the_holder_does_not_prevent_taking_the_lock(tmp_path: Path) -> None:
    file, over = tmp_path / "lock", threading.Event()

    def look() -> None:
        while not over.is_set():
            Lock(file).holder()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(2_000):
            lock = Lock(file)
            assert lock.take()
            assert not Lock(file).take()
            lock.release()
    finally:
        over.set()
        looking.join()


def test_services_outlive_a_killed_supervisor_and_the_next_one_adopts_them(supervised: Supervised) -> None:
    first = supervised.start()
    service = supervised.service_pid()
    first.kill()
    first.wait()
    assert supervised.service_pid() == service
    second = supervised.start()
    wait_for("it has the lock", lambda: Lock(supervisor.lock_file(supervised.state_directory)).holder() == second.pid)
    wait_for("it has adopted", lambda: service_records(supervised.state_directory).get("ca", {}).get("pid") == service)
    os.kill(service, signal.SIGKILL)
    assert supervised.service_pid(other_than=service) != service


def test_a_supervisor_that_is_stopped_stops_its_services_and_removes_pid_files(supervised: Supervised) -> None:
    program = supervised.start()
    service = supervised.service_pid()
    program.terminate()
    assert program.wait(30) == 0
    assert find(service, IDLE.marker(supervised.state_directory)) is None
    assert not supervisor.pid_file(supervised.state_directory, IDLE).exists()
    assert Lock(supervisor.lock_file(supervised.state_directory)).holder() is None


def test_taking_down_stops_services_that_lost_their_supervisor(supervised: Supervised) -> None:
    first = supervised.start()
    service = supervised.service_pid()
    first.kill()
    first.wait()
    assert take_down(supervised.state_directory, [IDLE]) is True
    assert find(service, IDLE.marker(supervised.state_directory)) is None
    assert take_down(supervised.state_directory, [IDLE]) is False


def test_how_a_service_ended_is_known(supervised: Supervised) -> None:
    supervised.state_directory.root.joinpath("refuse").write_text("78")
    supervised.start()
    known = wait_for("it has ended twice", lambda: _if_ended(service_records(supervised.state_directory), 2))
    assert known["last_end"] == supervisor.WILL_NOT_START


def _if_ended(known: dict[str, dict[str, object]], times: int) -> dict[str, object] | None:
    told = known.get("ca", {})
    return told if int(str(told.get("restarts", 0))) >= times else None


def test_a_process_id_that_now_belongs_to_another_program_is_not_taken_for_ours(tmp_path: Path) -> None:
    file = tmp_path / "ca.pid"
    file.write_text(f"{os.getpid()}\n")
    assert find(read_pid(file), "keyreeve_ca run --config /nowhere/ca.yaml") is None
    file.write_text("not a number")
    assert read_pid(file) is None
