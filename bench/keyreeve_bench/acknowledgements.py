"""Acknowledgement file: every certificate a client received, fsynced before the client continues."""

import asyncio
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """One certificate that a client received."""

    request_id: str
    serial: str
    der: bytes


class AcknowledgementFile:
    """Appends lines `REQUEST_ID SERIAL BASE64-DER`; several processes may append to the same file.

    `keep` returns when its lines are on disk. Lines that arrive during an fsync share the next one.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._busy: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    async def keep(self, acknowledged: list[Acknowledged]) -> None:
        """Append the certificates and wait until they are on disk. Raises `OSError`."""
        lines = "".join(f"{one.request_id} {one.serial} {b64encode(one.der).decode()}\n" for one in acknowledged)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((lines.encode(), done))
        if self._busy is None:
            self._busy = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                try:
                    # One write for a group: the kernel appends it whole, whatever other processes append meanwhile.
                    await asyncio.to_thread(self._append, b"".join(lines for lines, _ in group))
                except OSError as failure:
                    for _, done in group:
                        done.set_exception(failure)
                else:
                    for _, done in group:
                        done.set_result(None)
        finally:
            self._busy = None

    def _append(self, data: bytes) -> None:
        os.write(self._handle, data)
        os.fsync(self._handle)


def read(path: Path) -> Iterator[Acknowledged]:
    """Read the certificates in a file; a last line cut short by a crash is ignored."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                request_id, serial, der = line.split()
                yield Acknowledged(request_id, serial, b64decode(der))
