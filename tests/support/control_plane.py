"""A control plane of real processes, started and called with the `keyreeve` program: the CA alone unless a test needs more."""

import json
import os
import random
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keyreeve import Client, Context
from keyreeve.cli.supervision.local_services import SERVICES, write_config
from keyreeve.cli.supervision.processes import Lock, read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.cli.supervision.supervisor import lock_file, pid_file
from keyreeve_chassis.processes.fork_server import COMMAND_LENGTH
from support.forked_programs import run_forked
from support.postgres import Server
from support.waiting import locked

CA = SERVICES[0]
CA_ALONE = "support.ca_alone"
ALL_SERVICES = "keyreeve.cli"
_START_SECONDS = 120.0
_COMMAND_SECONDS = 110.0
_TURN_SECONDS = 200.0
_SHARED = {CA_ALONE: "ca", ALL_SERVICES: "services"}
"""Names of the control planes that all processes of a test run share."""
_TESTS = str(Path(__file__).parents[1])
_OURS = ("KEYREEVE_CONTEXT", "KEYREEVE_DIR", "KEYREEVE_PORT", "FORCE", "NO_COLOR")


@dataclass(frozen=True)
class Done:
    """Result of a program."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class ControlPlane:
    """A control plane in `directory/.keyreeve`; commands run in `directory`."""

    directory: Path
    module: str = CA_ALONE
    """The program: `keyreeve`, or one with fewer or more services."""

    @property
    def state_directory(self) -> StateDirectory:
        return StateDirectory.at(self.directory / ".keyreeve")

    @property
    def context(self) -> Context:
        return Context.load(self.state_directory.context)

    def client(self, timeout: float = 30.0) -> Client:
        return Client(self.context, timeout=timeout)

    def run(self, *arguments: object, given: bytes | None = None, extra: dict[str, str] | None = None) -> Done:
        """Run `keyreeve` with these arguments; with settings of Python or the system in `extra` it is no forked process."""
        base = {name: value for name, value in os.environ.items() if name not in _OURS} | {"PYTHONPATH": _TESTS}
        environment, words = base | (extra or {}), [str(argument) for argument in arguments]
        if self.module in _SHARED and all(name.startswith("KEYREEVE_") for name in extra or ()):
            code, out, err = run_forked(
                self.module, words, self.directory, environment, given=given, timeout=_COMMAND_SECONDS
            )
            return Done(code, out.decode(), err.decode())
        done = subprocess.run(
            [sys.executable, "-m", self.module, *words],
            cwd=self.directory,
            env=environment,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def configure(self, database: str) -> None:
        """Write its settings, for a database, before it is brought up for the first time."""
        self.state_directory.make()
        write_config(self.state_directory, CA, trust_domain="dev.localhost", first_port=0, rng=random.SystemRandom())
        config = self.state_directory.config(CA.name)
        config.write_text(config.read_text().replace("sqlite:///ca.db", database))

    def up(self, **settings: str) -> Done:
        """Start it on free ports, or fail."""
        done = self.run("up", "--port", "0", extra=settings)
        assert done.code == 0, done.err + done.out
        return done

    def down(self) -> None:
        done = self.run("down")
        assert done.code == 0, done.err

    # --- Its processes ----------------------------------------------------------------------------------------------

    def supervisor(self) -> int | None:
        return Lock(lock_file(self.state_directory)).holder()

    def manager(self) -> int | None:
        return read_pid(pid_file(self.state_directory, CA))

    def children(self) -> dict[str, list[int]]:
        """Ids of the manager's children by kind: `fork_server`, `coordinator`, `worker`."""
        manager = self.manager()
        found: dict[str, list[int]] = {"fork_server": [], "coordinator": [], "worker": []}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                name = (entry / "comm").read_text().strip()
                parent = int(re.sub(r"^.*\) . ", "", (entry / "stat").read_text()).split()[0])
            except (OSError, ValueError):
                continue
            for kind, ids in found.items():
                if parent == manager and name.startswith(f"kr-ca-{kind}"[:COMMAND_LENGTH]):
                    ids.append(int(entry.name))
        return found

    def listeners(self) -> int:
        """Number of its processes that listen on the shared port."""
        port = int(self.context.endpoint(CA.name).rpartition(":")[2])
        tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
        sockets = [line.split() for table in tables for line in table]
        return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in sockets)  # LISTEN

    def memory(self) -> dict[str, int]:
        """Resident bytes of the service's processes that are no files', by kind and id.

        Pages of libraries count once they are touched, which says nothing about what a process keeps.
        """
        told = {}
        for kind, ids in self.children().items():
            for pid in ids:
                status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                told[f"{kind} {pid}"] = int(status["RssAnon"].split()[0]) * 1024
        return told


def new_database(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of the kind `request.param`; for SQLite that of the control plane's own settings."""
    if request.param == "sqlite":
        return "sqlite:///ca.db"
    server: Server = request.getfixturevalue("postgresql_server")
    name = f"control_plane_{uuid.uuid4().hex}"
    server.execute(f"CREATE DATABASE {name}")
    return server.url(name)


def shared_control_plane(shared: Path, module: str = ALL_SERVICES) -> ControlPlane:
    """A control plane of this test run, started if need be; `shared` is the run's directory."""
    directory = shared / _SHARED[module]
    made = ControlPlane(directory, module)
    with locked(f"starting {directory.name}", directory.with_suffix(".lock"), _START_SECONDS):
        if not directory.exists():
            directory.mkdir()
            made.up()
    return made


def stop_shared_control_planes(shared: Path) -> None:
    """Stop the control planes of this test run."""
    for module, name in _SHARED.items():
        if (shared / name).exists():
            ControlPlane(shared / name, module).down()


@contextmanager
def use_of(shared: Path, *, alone: bool) -> Iterator[None]:
    """Use the control plane of the CA alone beside the tests of other processes, or while none of them does."""
    with ExitStack() as stack:
        with locked("a test that uses the control plane alone", shared / "ca.turn", _TURN_SECONDS):
            what = "a test that uses the control plane"
            stack.enter_context(locked(what, shared / "ca.use", _TURN_SECONDS, shared=not alone))
        yield
