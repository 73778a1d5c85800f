"""Files that are open over SFTP."""

from typing import Any

import asyncssh
import pytest

from keyreeve.errors import KeyFileNotFound
from keyreeve.file_values import FileSpace
from keyreeve_gateway.ssh.files import MOST_OPEN, OpenFile, VaultFiles

UPLOAD = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT


class Files:
    """The vault's files: those that were put."""

    def __init__(self) -> None:
        self.put_names: list[str] = []

    async def put(self, _space: FileSpace, name: str, _contents: object, **_options: object) -> None:
        self.put_names.append(name)

    async def get(self, *_arguments: object, **_options: object) -> object:
        raise KeyFileNotFound("there is no such file")


class Channel:
    """What asyncssh asks a channel for."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default if name != "logger" else self

    def get_logger(self, *_arguments: object) -> None:
        return None


def opening(files: Files) -> VaultFiles:
    async def space() -> FileSpace:
        return FileSpace("web", "web-1.example.test")

    channel: Any = Channel()
    vault: Any = files
    return VaultFiles(channel, vault, space, lambda: False)


async def test_a_session_has_a_bounded_number_of_files_open() -> None:
    files = Files()
    served = opening(files)
    opened: list[OpenFile] = [await served.open(b"%d.crt" % n, UPLOAD, asyncssh.SFTPAttrs()) for n in range(MOST_OPEN)]
    with pytest.raises(asyncssh.SFTPFailure, match="at most 16 files"):
        await served.open(b"more.crt", UPLOAD, asyncssh.SFTPAttrs())
    await served.close(opened[0])
    await served.open(b"more.crt", UPLOAD, asyncssh.SFTPAttrs())
    assert files.put_names == ["0.crt"]


async def test_a_file_that_could_not_be_opened_does_not_count() -> None:
    served = opening(Files())
    for _ in range(2 * MOST_OPEN):
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await served.open(b"no.crt", asyncssh.FXF_READ, asyncssh.SFTPAttrs())
