"""A real PgBouncer in transaction mode in front of a test's PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.postgres import Server
from support.programs import find_program
from support.waiting import wait_for

PORT = 6432
"""In the name of its Unix socket."""
_SETTINGS = """\
[databases]
* = host={server} user=keyreeve

[pgbouncer]
listen_addr =
listen_port = {port}
unix_socket_dir = {directory}
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
logfile = {directory}/log
pidfile = {directory}/pid
"""


@dataclass
class Pooler:
    """A pooler that a test starts and stops."""

    directory: Path
    program: str
    process: "subprocess.Popen[bytes] | None" = None

    def url(self, database: str) -> str:
        return f"postgresql://keyreeve@/{database}?host={self.directory}&port={PORT}"

    def start(self) -> None:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to run as root
        self.process = subprocess.Popen(
            [self.program, "-q", *user, self.directory / "ini"], cwd=self.directory, stdin=subprocess.DEVNULL
        )
        wait_for("the pooler listens", (self.directory / f".s.PGSQL.{PORT}").exists)

    def stop(self) -> None:
        """Kill it: all connections are lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        for left in ("pid", f".s.PGSQL.{PORT}"):
            (self.directory / left).unlink(missing_ok=True)


@contextmanager
def pooler(server: Server, *, connections: int) -> Iterator[Pooler]:
    """A running pooler with so many connections to the server for each database."""
    directory = Path(tempfile.mkdtemp(prefix="kr-pool-", dir="/tmp"))
    made = Pooler(directory, find_program("pgbouncer"))
    settings = {"server": server.directory, "directory": directory, "port": PORT, "connections": connections}
    (directory / "ini").write_text(_SETTINGS.format(**settings))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory)
