"""Replicas of the membership service as processes that a test starts, stops at failpoints, and kills."""

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from keyreeve import Client
from keyreeve.cli.supervision.local_services import choose_ports
from keyreeve.service_files import token_file
from keyreeve_chassis.database.engine import postgresql, sqlite_reader
from keyreeve_chassis.processes import failpoints
from keyreeve_membership.store.schema import SCHEMA
from support.forked_ca import LOOPBACK, ForkedCa, ask
from support.waiting import wait_for


@dataclass
class ForkedMembership:
    """One replica."""

    program: "subprocess.Popen[str]"
    name: str
    directory: Path
    url: str
    kek: Path
    """The key-encryption key, which all replicas share."""
    settings: dict[str, str]
    port: int = field(default_factory=lambda: choose_ports(0, random.SystemRandom(), offsets={"port": 0})["port"])
    pid: int = 0
    """Of the running process; 0: none runs."""

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def state(self) -> Path:
        return self.directory / self.name

    def start(self, armed: str = "") -> None:
        """Start it, with failpoints; does not wait."""
        settings = {
            "TRUST_DOMAIN": "example.test",
            "INSTANCE": self.name,
            "STATE_DIRECTORY": str(self.state),
            "DATABASE__URL": self.url,
            "KEYS__FILE": str(self.kek),
            "DRAIN_SECONDS": "1",
            "LISTEN__HOST": LOOPBACK,
            "LISTEN__PORT": str(self.port),
            "LISTEN__HEALTH_PORT": "null",
            **self.settings,
        }
        environment = {f"KEYREEVE_MEMBERSHIP_{name}": value for name, value in settings.items()}
        environment |= {failpoints.ALLOW_VARIABLE: "1", failpoints.ARM_VARIABLE: armed}
        self._out.unlink(missing_ok=True)
        self.pid = ask(
            self.program,
            {
                "start": {
                    "package": "keyreeve_membership",
                    "arguments": ["run"],
                    "environment": environment,
                    "files": str(self.directory / self.name),
                }
            },
        )

    def wait(self) -> None:
        """Wait until it serves."""
        wait_for(f"replica {self.name} serves", lambda: self.ended or (self._out.exists() and self._out.read_bytes()))
        assert self.pid, (self.directory / f"{self.name}.err").read_text()[-4_000:]

    @property
    def ended(self) -> bool:
        """Whether no process of it runs."""
        if self.pid and ask(self.program, {"look": self.pid}) is not None:
            self.pid = 0
        return not self.pid

    @property
    def stopped(self) -> bool:
        """Whether it stands still at a failpoint."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def kill(self) -> None:
        """Kill it."""
        self._signal(signal.SIGKILL)
        wait_for(f"replica {self.name} is dead", lambda: self.ended)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it, if it runs."""
        self.resume()
        self._signal(signal.SIGTERM)
        wait_for(f"replica {self.name} ends", lambda: self.ended)

    def _signal(self, number: int) -> None:
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def _out(self) -> Path:
        return self.directory / f"{self.name}.out"


@contextmanager
def forked_membership(
    ca: ForkedCa, admin: Client, url: str | None, names: Sequence[str] = ("one",), **settings: str
) -> Iterator[list[ForkedMembership]]:
    """Replicas on one database, enrolled with the CA; the first of them makes the key that all have."""
    kek, made = ca.directory / names[0] / "kek", []
    for name in names:
        replica = ForkedMembership(ca.program, name, ca.directory, url or "sqlite:///membership.db", kek, settings)
        made.append(replica)
        replica.state.mkdir(mode=0o700)
        token = admin.tokens.create(f"spiffe://example.test/services/membership/{name}", address=ca.enroll_address)
        token_file(replica.state).write_text(token.text)
    try:
        for replica in made:
            replica.start()
            replica.wait()
        yield made
    finally:
        for replica in made:
            replica._signal(signal.SIGKILL)


def roll_reader(replica: ForkedMembership) -> Engine:
    """Reads the service's database, independent of its processes."""
    if replica.url.startswith("sqlite"):
        return sqlite_reader(replica.state / "membership.db", connections=1)
    return postgresql(replica.url, schema=SCHEMA.name, application_name="test", connections=1)


def rows_of(engine: Engine, statement: str, **bound: Any) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), bound)]


def epoch_authorities(engine: Engine, array_id: str) -> set[str]:
    """The CAs of the newest epoch of an array."""
    query = "SELECT authorities FROM epochs WHERE array_id = :array ORDER BY epoch DESC LIMIT 1"
    [[listed]] = rows_of(engine, query, array=array_id)
    return {one[0] for one in json.loads(listed)}
