"""What can stand between a service and PostgreSQL: a proxy that may swallow notifications, freeze, or cut connections."""

import asyncio
from contextlib import suppress
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"
_NOTIFICATION = b"A"
"""Type of NotificationResponse (PostgreSQL's protocol 3, message formats)."""


class PostgresProxy:
    """Listens in a directory of its own, and passes everything on to a server's Unix socket."""

    def __init__(self, server: Path, directory: Path) -> None:
        self.directory = directory
        self.deaf = False
        """Notifications do not pass, as with a pooler in transaction mode, whose client has no connection while it waits."""
        self.thawed = asyncio.Event()
        """Nothing passes while it is not set, and nobody is told."""
        self.thawed.set()
        self.connections = 0
        self._server = server
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self._listener = await asyncio.start_unix_server(self._serve, self.directory / _SOCKET)

    def url(self, database: str) -> str:
        return f"postgresql://keyreeve@/{database}?host={self.directory}"

    def cut(self) -> None:
        """Close every connection."""
        for writer in self._open:
            writer.close()

    async def stop(self) -> None:
        self._listener.close()
        self.thawed.set()
        self.cut()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, to_server = await asyncio.open_unix_connection(self._server / _SOCKET)
        self._open |= {writer, to_server}
        with suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(self._pass_bytes(reader, to_server), self._pass_messages(there, writer))
        for one in (writer, to_server):
            one.close()

    async def _pass_bytes(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.thawed.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    async def _pass_messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
            await self.thawed.wait()
            if not (self.deaf and head[:1] == _NOTIFICATION):
                writer.write(head + body)
                await writer.drain()
