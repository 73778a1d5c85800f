"""Files that are open over SFTP."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import asyncssh
import pytest

from keyreeve.errors import KeyFileNotFound
from keyreeve.file_values import FileSpace
from keyreeve_gateway.ssh.files import MOST_OPEN, OpenFile, VaultFiles

UPLOAD = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC
CONTINUE = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT


class Files:
    """The vault's files: those that were put."""

    def __init__(self) -> None:
        self.put_names: list[str] = []
        self.replaced: list[object] = []

    async def put(self, _space: FileSpace, name: str, _contents: object, *, replace: bool) -> None:
        self.put_names.append(name)
        self.replaced.append(replace)

    async def list(self, _space: FileSpace) -> AsyncIterator[object]:
        for name in self.put_names:
            yield SimpleNamespace(file=name)

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


async def test_an_upload_is_not_continued_since_the_beginning_of_the_file_would_be_lost() -> None:
    files = Files()
    served = opening(files)
    new = await served.open(b"web.crt", CONTINUE, asyncssh.SFTPAttrs())
    await served.write(new, 0, b"whole")
    await served.close(new)
    assert (files.put_names, files.replaced) == (["web.crt"], [False])
    with pytest.raises(asyncssh.SFTPOpUnsupported, match="is not continued"):
        await served.open(b"web.crt", CONTINUE, asyncssh.SFTPAttrs())
