"""The SSH listener in this process, with sessions and a host key of the test, and Debian's clients beside it."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh

from keyreeve.errors import KeyreeveError, SessionProofRefused
from keyreeve_gateway.execute.service import LegacyCommands
from keyreeve_gateway.mmp.program import MMP
from keyreeve_gateway.programs import PROGRAMS
from keyreeve_gateway.service_settings import SshSettings
from keyreeve_gateway.settings import LegacySettings
from keyreeve_gateway.ssh.backoff import Backoff
from keyreeve_gateway.ssh.commands import SshCommands
from keyreeve_gateway.ssh.connection import SshDoor
from keyreeve_gateway.ssh.listener import open_listener
from keyreeve_gateway.ssh.ports import SshLogin
from support.gateway import OpenedSession

SERVER = "newyork.example.com"


@dataclass
class LocalHostKey:
    """A host key of the test."""

    key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    algorithm: str = "ssh-ed25519"

    @property
    def public_key(self) -> bytes:
        return self.key.public_data

    async def sign_exchange_hash(self, exchange_hash: bytes) -> bytes:
        await asyncio.sleep(0)
        return self.key.sign(exchange_hash, b"ssh-ed25519")


@dataclass
class KnownPeople:
    """Sessions of the people whose keys it knows."""

    services: Any
    keys: dict[bytes, str] = field(default_factory=dict)
    """SPIFFE IDs by public key."""
    opened: list[OpenedSession] = field(default_factory=list)
    refused: list[SshLogin] = field(default_factory=list)
    closed: int = 0

    @asynccontextmanager
    async def open_ssh(self, login: SshLogin, _client_address: str) -> AsyncIterator[OpenedSession]:
        if login.public_key not in self.keys:
            self.refused.append(login)
            raise SessionProofRefused("nobody has registered this key")
        over: asyncio.Future[KeyreeveError] = asyncio.get_running_loop().create_future()
        self.opened.append(OpenedSession(self.keys[login.public_key], self.services, [], over))
        try:
            yield self.opened[-1]
        finally:
            self.closed += 1


@dataclass
class RunningSsh:
    """The listener, and a person with a key."""

    port: int
    directory: Path
    people: KnownPeople
    host_key: LocalHostKey
    delays: list[float]

    def options(self, *more: str, identity: str = "me") -> list[str]:
        """Options of Debian's programs, which read no files of this user."""
        chosen = [
            f"IdentityFile={self.directory / identity}",
            f"UserKnownHostsFile={self.directory / 'known_hosts'}",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
            "HostKeyAlias=gateway",
            f"SetEnv=KEYREEVE_SERVER={SERVER}",
            *more,
        ]
        return ["-F", "none", *(part for option in chosen for part in ("-o", option))]

    async def ssh(self, *command: str, options: tuple[str, ...] = (), given: bytes = b"", identity: str = "me") -> Any:
        """Run Debian's ssh; its exit code, output and error."""
        argv = ["ssh", *self.options(*options, identity=identity), "-p", str(self.port), "admin@127.0.0.1", *command]
        return await run(*argv, given=given)

    async def sftp(self, *lines: str, options: tuple[str, ...] = ()) -> Any:
        """Run Debian's sftp with a batch of commands."""
        argv = ["sftp", *self.options(*options), "-P", str(self.port), "-b", "-", "admin@127.0.0.1"]
        return await run(*argv, given="\n".join(lines).encode() + b"\n")

    def make_identity(self, name: str, person: str | None) -> None:
        """Make a key, which a person has registered."""
        make_key(self.directory / name)
        if person is not None:
            public = asyncssh.read_public_key(self.directory / f"{name}.pub")
            self.people.keys[public.public_data] = person


@dataclass(frozen=True)
class Done:
    """How a program has ended."""

    code: int
    out: str
    err: str


async def run(*argv: str, given: bytes = b"") -> Done:
    """Run a program."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate(given)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def make_key(path: Path) -> None:
    """Make a key pair in files."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    path.write_bytes(key.export_private_key())
    path.chmod(0o600)
    path.with_name(f"{path.name}.pub").write_bytes(key.export_public_key())


@asynccontextmanager
async def running_ssh(directory: Path, services: Any) -> AsyncIterator[RunningSsh]:
    """Run the listener until the context is left."""
    people, host_key, delays = KnownPeople(services), LocalHostKey(), list[float]()

    async def sleep(seconds: float) -> None:
        delays.append(seconds)

    commands = LegacyCommands(PROGRAMS, LegacySettings(), lambda: datetime.now(UTC))
    door = SshDoor(people, host_key, SshCommands(commands, MMP, "cms"), Backoff(time.monotonic), sleep)
    async with open_listener(SshSettings(port=0), door) as port:
        running = RunningSsh(port, directory, people, host_key, delays)
        running.make_identity("me", "spiffe://example.test/operators/admin/ann")
        public = host_key.key.export_public_key().decode()
        (directory / "known_hosts").write_text(f"gateway {public}")
        yield running
