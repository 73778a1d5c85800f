"""The CA's own processes as a test starts and kills them, forked from one that has imported them: most of a start's time.

Run as a program it is that one: each line of standard input is a JSON object, `{"start": {...}}` forks a process of the
service `package`, the CA unless it is named, and prints its id, `{"look": pid}` prints its exit code (that of a signal is
negative), or null while it runs. Imported, it has what tests drive it with. Nothing may have used gRPC before the fork,
and nothing has.
"""

import asyncio
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, text

from keyreeve import Context
from keyreeve.cli.supervision.local_services import choose_ports
from keyreeve.errors import DeadlinePassed, Unavailable
from keyreeve.keys import make_csr, make_key, save_key
from keyreeve_ca import local_admin
from keyreeve_ca.store.schema import SCHEMA
from keyreeve_chassis.database.engine import postgresql, sqlite_reader
from keyreeve_chassis.processes import failpoints
from support.databases import fresh_postgresql_database
from support.postgres import Server
from support.waiting import going_on, wait_for

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
_ASKING = threading.Lock()
_END_SECONDS = 30.0
ADMIN = "spiffe://example.test/operators/admin/ann"
_STDIN, _STDOUT, _STDERR = range(3)


@dataclass
class Process:
    """One process of the CA."""

    role: str
    pid: int
    directory: Path
    armed: str
    ended: int | None = None
    """Its exit code; that of a signal is negative."""


@dataclass
class ForkedCa:
    """One instance: a coordinator and a worker that a test starts, kills and replaces."""

    program: "subprocess.Popen[str]"
    directory: Path
    settings: Mapping[str, str]
    ports: Mapping[str, int]
    engine: Engine
    """Reads the database, independent of the processes."""
    processes: dict[str, Process] = field(default_factory=dict)
    killed: list[Process] = field(default_factory=list)
    """Processes that a failpoint has ended, in order."""
    on_death: Callable[[], None] = lambda: None
    """Called after a process was killed, before it is replaced."""
    armed_again: Callable[[Process], str] = lambda _: ""
    """Failpoints of the process that replaces an ended one."""
    may_fail: bool = False
    """Whether its processes may end with a failure, as when their database has gone."""

    # --- Addresses --------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.directory / "ca"

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.ports['port']}"

    @property
    def enroll_address(self) -> str:
        return f"{LOOPBACK}:{self.ports['enroll_port']}"

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['http_port']}"

    # --- Processes --------------------------------------------------------------------------------------------------

    def start(self, role: str, armed: str = "") -> Process:
        """Start the coordinator or the worker, with failpoints; does not wait."""
        environment = dict(self.settings)
        if armed:
            environment |= {failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: armed}
        (self.directory / f"{role}.out").unlink(missing_ok=True)
        arguments = [role] if role == "coordinator" else [role, "--index", "0"]
        order = {"arguments": arguments, "environment": environment, "files": str(self.directory / role)}
        pid = ask(self.program, {"start": order})
        self.processes[role] = Process(role, pid, self.directory, armed)
        return self.processes[role]

    def mind(self) -> None:
        """Start what has ended again, as the manager does."""
        for role, process in list(self.processes.items()):
            self._look(process)
            if process.ended is not None:
                self.start(role, self.armed_again(process))

    def serve(self, armed: str = "") -> None:
        """Start both processes, first with the failpoints, and wait until they serve."""
        for role in ("coordinator", "worker"):
            self.start(role, armed)
            wait_for(f"the {role} serves", lambda role=role: self.mind() or self._is_ready(role))

    def replace(self, role: str, armed: str) -> None:
        """Stop a process and start another one."""
        self._end(role)
        self.start(role, armed)

    @contextmanager
    def nursed(self) -> Iterator[None]:
        """Restart processes that end, while the context is active."""
        with going_on(self.mind):
            yield

    def _is_ready(self, role: str) -> bool:
        out = self.directory / f"{role}.out"
        return out.exists() and out.read_bytes() == b"ready\n"

    def _look(self, process: Process) -> bool:
        """Whether it has ended; fails when it exited by itself or cannot start with these settings."""
        if process.ended is None:
            process.ended = ask(self.program, {"look": process.pid})
            if process.ended == -signal.SIGKILL:
                assert process.armed, f"nobody was to kill the {process.role}"
                self.killed.append(process)
                self.on_death()
            # Without its coordinator a worker cannot start; it ends, and is started again.
            followed = self.killed or self.may_fail
            may_end = {0, 1, -signal.SIGTERM, -signal.SIGKILL} if followed else {0, -signal.SIGTERM}
            assert process.ended is None or process.ended in may_end, self.log(process.role)
        return process.ended is not None

    def kill(self) -> None:
        """Kill both; `nursed` starts them again."""
        for process in list(self.processes.values()):
            process.armed = process.armed or "killed by the test"
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Stop both, the worker first, because it needs the coordinator."""
        self._end("worker")
        self._end("coordinator")

    def _end(self, role: str) -> None:
        process = self.processes.pop(role)
        if not self._look(process):
            os.kill(process.pid, signal.SIGTERM)
            wait_for(f"the {role} ends", lambda: self._look(process))

    def abandon(self) -> None:
        """Kill both processes."""
        while self.processes:
            _, process = self.processes.popitem()
            if process.ended is None:
                os.kill(process.pid, signal.SIGKILL)

    def log(self, role: str) -> str:
        return (self.directory / f"{role}.err").read_text()[-4_000:]

    # --- What a test asks -------------------------------------------------------------------------------------------

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the database."""
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def admit(self) -> Context:
        """Get the certificate of the first operator over the local socket."""
        key = make_key()
        told = asyncio.run(local_admin.first_operator(self.state / "run" / "coordinator.sock", "ann", make_csr(key)))
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        context = Context(
            trust_domain="example.test",
            endpoints={"ca": self.address},
            bundle=directory / "bundle.pem",
            estate_bundle=directory / "estate-bundle.pem",
            certificate=directory / "certificate.pem",
            key=directory / "key.pem",
        )
        save_key(context.key, key)
        context.certificate.write_text(told["certificate_pem"] + told["chain_pem"])
        context.bundle.write_text(told["control_bundle_pem"])
        context.estate_bundle.write_text(told["estate_bundle_pem"])
        return context


def ask(program: "subprocess.Popen[str]", order: Mapping[str, Any]) -> Any:
    """Give the forking program an order, and return its answer."""
    assert program.stdin is not None
    assert program.stdout is not None
    with _ASKING:
        program.stdin.write(json.dumps(order) + "\n")
        program.stdin.flush()
        return json.loads(program.stdout.readline())


def again_and_again(what: str, act: Callable[[], T]) -> T:
    """Retry until the service has done it."""

    def attempt() -> list[T]:
        try:
            return [act()]
        except (Unavailable, DeadlinePassed):
            return []

    return wait_for(what, attempt)[0]


@contextmanager
def forking() -> Iterator["subprocess.Popen[str]"]:
    """Run the program below; its processes end with it."""
    program = subprocess.Popen(
        [sys.executable, "-m", "support.forked_ca"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert program.stdin is not None
    assert program.stdout is not None
    try:
        yield program
    finally:
        program.stdin.close()
        try:
            program.wait(_END_SECONDS)
        finally:
            program.kill()
            program.stdout.close()


def join(first: ForkedCa, second: ForkedCa) -> None:
    """Make the second an instance of the first's control plane: copy the key-encryption key."""
    second.state.mkdir(mode=0o700)
    shutil.copy(first.state / "kek", second.state / "kek")
    (second.state / "kek").chmod(0o600)


@contextmanager
def forked_ca(program: "subprocess.Popen[str]", url: str | None, **settings: str) -> Iterator[ForkedCa]:
    """An instance that has not been started, on an empty database; `{directory}` in settings is its directory."""
    directory = Path(tempfile.mkdtemp(prefix="kr-"))  # its path is short enough for a socket
    more = {name: value.replace("{directory}", str(directory)) for name, value in settings.items()}
    environment, ports = settings_of(directory, url, **more)
    if url is None:
        engine = sqlite_reader(directory / "ca" / "ca.db", connections=1)
    else:
        engine = postgresql(url, schema=SCHEMA.name, application_name="test", connections=1)
    ca = ForkedCa(program, directory, environment, ports, engine)
    try:
        yield ca
    finally:
        engine.dispose()
        ca.abandon()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def forking_program() -> Iterator["subprocess.Popen[str]"]:
    with forking() as started:
        yield started


NewCa = Callable[..., AbstractContextManager[ForkedCa]]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_forked_ca(request: pytest.FixtureRequest, forking_program: "subprocess.Popen[str]") -> NewCa:
    """Makes instances, each on a database of its own, of each kind in turn."""

    @contextmanager
    def begin(**settings: str) -> Iterator[ForkedCa]:
        if request.param == "sqlite":
            with forked_ca(forking_program, None, **settings) as made:
                yield made
            return
        server: Server = request.getfixturevalue("postgresql_server")
        with fresh_postgresql_database(server) as url, forked_ca(forking_program, url, **settings) as made:
            yield made

    return begin


def settings_of(directory: Path, url: str | None, **more: str) -> tuple[dict[str, str], dict[str, int]]:
    """Environment variables for an instance of its own ports in a directory, and the ports."""
    ports = choose_ports(0, random.SystemRandom())
    settings = {
        "TRUST_DOMAIN": "example.test",
        "INSTANCE": "killed",
        "STATE_DIRECTORY": str(directory / "ca"),
        "DRAIN_SECONDS": "1",
        "LISTEN__HOST": LOOPBACK,
        "LISTEN__PORT": str(ports["port"]),
        "LISTEN__HEALTH_PORT": "null",
        "ENROLL__PORT": str(ports["enroll_port"]),
        "HTTP__PORT": str(ports["http_port"]),
        "HTTP_URL": f"http://{LOOPBACK}:{ports['http_port']}",
        "LINT__SAMPLE_RATE": "0",
        **({} if url is None else {"DATABASE__URL": url}),
        **more,
    }
    return {f"KEYREEVE_CA_{name}": value for name, value in settings.items()}, ports


# --- The program --------------------------------------------------------------------------------------------------------


def main() -> None:
    from keyreeve_ca import coordinator, worker

    assert all((coordinator, worker)), "imported for the processes to come"
    guard, held = os.pipe()  # ends with this process, and with it the standard input of all the others
    for line in sys.stdin:
        order = json.loads(line)
        if "look" in order:
            pid, status = os.waitpid(order["look"], os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if pid else 0
            print(json.dumps(code if pid else None), flush=True)
            continue
        package = order["start"].get("package", "keyreeve_ca")
        program = importlib.import_module(f"{package}.__main__").PROGRAM
        program.spec()
        pid = os.fork()
        if pid == 0:
            os.close(held)
            _become(order["start"], package, guard)
            os._exit(_exit_code(program.main))
        print(json.dumps(pid), flush=True)


def _become(order: Mapping[str, Any], package: str, guard: int) -> None:
    """Take a new process's standard streams, arguments and environment."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for place, descriptor in (
        (_STDIN, guard),
        (_STDOUT, os.open(order["files"] + ".out", flags, 0o600)),
        (_STDERR, os.open(order["files"] + ".err", flags, 0o600)),
    ):
        os.dup2(descriptor, place)
    sys.argv = [package, *order["arguments"]]
    os.environ.update(order["environment"])
    random.seed()
    time.tzset()


def _exit_code(run: Any) -> int:
    try:
        code = run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001 - whatever it is, the process must not go on as its parent
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stderr.flush()
    return code if isinstance(code, int) else 1


if __name__ == "__main__":
    main()
