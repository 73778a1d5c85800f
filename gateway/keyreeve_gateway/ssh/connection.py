"""One connection: the login, and the channels of the session that it opens."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.packet import SSHPacket, String

from keyreeve.errors import KeyreeveError
from keyreeve.file_values import FileSpace
from keyreeve_gateway.execute.variables import ARRAY, SERVER
from keyreeve_gateway.sessions.ports import Session
from keyreeve_gateway.ssh.backoff import Backoff
from keyreeve_gateway.ssh.commands import SshCommands, environment_of
from keyreeve_gateway.ssh.files import VaultFiles
from keyreeve_gateway.ssh.ports import HostKey, SshLogin, SshSessions
from keyreeve_gateway.text import last_part, one_line

MOST_NAME = 64
"""Characters of an account's name."""
_FAILED = 1
_log = logging.getLogger("keyreeve.gateway")

SIGNATURE_ALGORITHMS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Signatures of clients that are accepted."""


@dataclass(frozen=True, slots=True)
class SshDoor:
    """What every connection of a listener uses."""

    sessions: SshSessions
    host_key: HostKey
    commands: SshCommands
    backoff: Backoff
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class GatewayConnection(asyncssh.SSHServerConnection):
    """A connection whose login is decided by the CA and whose host key signs in the vault."""

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Any, door: SshDoor) -> None:  # noqa: ANN401 - asyncssh's
        """Take what every connection uses."""
        super().__init__(loop, options)
        self._door = door
        self._opened = AsyncExitStack()
        self.session: Session | None = None
        """The session, after the login."""

    async def sign_exchange_hash(self, exchange_hash: bytes) -> bytes:
        """Sign a key exchange (`key_exchange.py`)."""
        return await self._door.host_key.sign_exchange_hash(exchange_hash)

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Decide about a key: any is good to sign with, and the CA knows whose it is.

        Not asyncssh's own rules: what it calls for a decision has neither the session's id nor the signature.
        """
        if not msg:
            return True
        address = str(self.get_extra_info("peername", ("",))[0])
        pair = (address, username[:MOST_NAME])
        await self._door.sleep(self._door.backoff.delay(pair))
        try:
            login = self._login(username, key_data, msg, signature)
            session = await self._opened.enter_async_context(self._door.sessions.open_ssh(login, address))
        except KeyreeveError as refused:
            self._door.backoff.failed(pair)
            _log.info("a login of %s from %s was refused: %s", one_line(username[:MOST_NAME]), address, refused.reason)
            return False
        except (asyncssh.Error, ValueError):
            self._door.backoff.failed(pair)
            return False
        self._door.backoff.succeeded(pair)
        self.session = session
        self.create_task(self._watch(session))
        return True

    def connection_lost(self, exc: Exception | None = None) -> None:
        """Close the session with its connection."""
        super().connection_lost(exc)
        self._loop.create_task(self._opened.aclose())

    def _login(self, user_name: str, key_data: bytes, signed: bytes, signature: bytes) -> SshLogin:
        """What the client has signed, once its signature has been verified here: a wrong one is no call of the CA."""
        request = SSHPacket(signed)
        request.get_byte()
        for _ in ("user name", "service", "method"):
            request.get_string()
        request.get_boolean()
        algorithm = request.get_string().decode("ascii")
        if algorithm.replace("-cert-v01@openssh.com", "").removesuffix("@openssh.com") not in _ACCEPTED:
            raise ValueError(algorithm)
        if not _key_of(key_data).verify(String(self._session_id) + signed, signature):
            raise ValueError("the signature is wrong")
        return SshLogin(self._session_id, user_name, key_data, algorithm, signature)

    async def _watch(self, session: Session) -> None:
        """End the connection once the session is over."""
        why = await session.wait_closed()
        _log.info("a session of %s is over: %s", session.identity, why.reason)
        self.disconnect(asyncssh.DISC_BY_APPLICATION, "the session is over: log in again")


_ACCEPTED = {name.removesuffix("@openssh.com") for name in SIGNATURE_ALGORITHMS}


def _key_of(key_data: bytes) -> asyncssh.SSHKey:
    """The key of a key or a certificate. Raises `asyncssh.KeyImportError`."""
    try:
        return asyncssh.public_key.decode_ssh_certificate(key_data).key
    except asyncssh.KeyImportError:
        return asyncssh.public_key.decode_ssh_public_key(key_data)


class LoginServer(asyncssh.SSHServer):
    """Which logins and channels there are: keys, and sessions."""

    def __init__(self, door: SshDoor) -> None:
        """Take what every connection uses."""
        self._door = door
        self._connection: GatewayConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Take hold of the connection."""
        assert isinstance(conn, GatewayConnection)
        self._connection = conn

    def public_key_auth_supported(self) -> bool:
        """Whether keys are accepted: they alone are."""
        return True

    def session_requested(self) -> "SessionChannel":
        """Open a channel for a command, a shell or SFTP."""
        assert self._connection is not None
        assert self._connection.session is not None
        return SessionChannel(self._door, self._connection.session)


class SessionChannel(asyncssh.SSHServerProcess[str]):
    """A channel: a command, a shell or SFTP; what it runs ends with it."""

    def __init__(self, door: SshDoor, session: Session) -> None:
        """Take what every connection uses, and the session."""
        super().__init__(self._run, self._files, 3, False)
        self._door, self._of = door, session
        self._running: asyncio.Task[None] | None = None
        self._over = False

    def subsystem_requested(self, subsystem: str) -> bool:
        """Whether a subsystem is served: SFTP alone."""
        return subsystem == "sftp"

    def eof_received(self) -> bool:
        """Note that the client says nothing more: an upload that is open has broken off."""
        self._over = True
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what runs."""
        self._over = True
        if self._running is not None:
            self._running.cancel()
        super().connection_lost(exc)

    async def _run(self, process: asyncssh.SSHServerProcess[str]) -> None:
        self._running = asyncio.current_task()
        try:
            code = await self._door.commands.run(process, self._of)
        except asyncio.CancelledError:
            return
        except KeyreeveError as failure:
            process.stderr.write(one_line(failure.message) + "\n")
            code = _FAILED
        except Exception as defect:  # noqa: BLE001 - a traceback would show what was typed
            _log.error("a command over SSH ended with %s", type(defect).__name__)
            process.stderr.write(f"internal error: {type(defect).__name__}; please report it\n")
            code = _FAILED
        process.exit(code)

    def _files(self, channel: SSHChannel[bytes]) -> VaultFiles:
        ours = cast("asyncssh.SSHServerChannel[bytes]", channel)
        return VaultFiles(
            ours,
            self._of.services.credentials.files,
            partial(self._space, environment_of(ours.get_environment())),
            lambda: self._over,
        )

    async def _space(self, environment: dict[str, str]) -> FileSpace:
        """The file space of the server that the client or the settings name. Raises `KeyreeveError`."""
        settings = self._door.commands.commands.settings
        server = environment.get(SERVER) or settings.server
        array = environment.get(ARRAY) or settings.array
        if not array:
            array = last_part((await self._of.services.membership.members.get(server)).array)
        return FileSpace(array, server)
