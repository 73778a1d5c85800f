"""SFTP over the file space of a server: one flat directory, whose files are in the vault.

A file is written when the client closes it, whole; an upload that breaks off leaves nothing. Reading a private key is a reveal:
the vault has its audit record on disk before the first byte is answered.
"""

import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import asyncssh
from asyncssh import SFTPAttrs, SFTPName

from keyreeve import errors
from keyreeve.file_values import FileSpace, KeyFile
from keyreeve.plaintext import Plaintext

if TYPE_CHECKING:
    from keyreeve._async.key_files import KeyFileClient

T = TypeVar("T")

MOST_BYTES = 1 << 20
"""The vault's limit of a file."""
MOST_OPEN = 16
"""Files that one session of SFTP has open: each is in memory."""
PURPOSE = "sftp"
"""What the audit log says that a private key was read for."""
_DIRECTORY = SFTPAttrs(type=asyncssh.FILEXFER_TYPE_DIRECTORY, permissions=stat.S_IFDIR | 0o700, size=0)


@dataclass(slots=True)
class OpenFile:
    """A file that is being read or written."""

    name: str
    contents: bytearray
    writing: bool
    exclusive: bool = False
    written: bool = field(default=False)


class VaultFiles(asyncssh.SFTPServer):
    """The file space of one server, in one session of SFTP."""

    def __init__(
        self,
        channel: "asyncssh.SSHServerChannel[bytes]",
        files: "KeyFileClient",
        space: Callable[[], Awaitable[FileSpace]],
        is_over: Callable[[], bool],
    ) -> None:
        """Take the vault's files, what finds the space, and whether the client has gone."""
        super().__init__(channel)
        self._files, self._find_space, self._is_over = files, space, is_over
        self._open = 0

    async def open(self, path: bytes, pflags: int, _attrs: SFTPAttrs) -> OpenFile:
        """Open a file: read it, or begin an upload."""
        name = file_name(path)
        writing = bool(pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_APPEND))
        if pflags & asyncssh.FXF_APPEND or (writing and pflags & asyncssh.FXF_READ):
            raise asyncssh.SFTPOpUnsupported("files are written whole")
        if self._open >= MOST_OPEN:
            raise asyncssh.SFTPFailure(f"at most {MOST_OPEN} files are open at once")
        self._open += 1
        try:
            return await self._begin(name, pflags, writing=writing)
        except BaseException:
            self._open -= 1
            raise

    async def _begin(self, name: str, pflags: int, *, writing: bool) -> OpenFile:
        if not writing:
            found = await self._call(lambda space: self._files.get(space, name, purpose=PURPOSE))
            return OpenFile(name, bytearray(found.contents.reveal()), writing=False)
        if not pflags & asyncssh.FXF_CREAT:
            await self._file(name)
        if not pflags & asyncssh.FXF_TRUNC:
            if any(file.file == name for file in await self._list()):
                raise asyncssh.SFTPOpUnsupported("files are written whole: an upload is not continued")
            return OpenFile(name, bytearray(), writing=True, exclusive=True)
        return OpenFile(name, bytearray(), writing=True, exclusive=bool(pflags & asyncssh.FXF_EXCL))

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read a part of a file."""
        return bytes(_opened(file_obj, writing=False).contents[offset : offset + size])

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Take a part of an upload."""
        file = _opened(file_obj, writing=True)
        end = offset + len(data)
        if end > MOST_BYTES:
            raise asyncssh.SFTPFailure(f"a file has at most {MOST_BYTES} bytes")
        file.contents.extend(bytes(max(0, end - len(file.contents))))
        file.contents[offset:end] = data
        return len(data)

    async def close(self, file_obj: object) -> None:
        """Store an upload, unless the client went away in the middle of it."""
        assert isinstance(file_obj, OpenFile)
        self._open -= 1
        if not file_obj.writing or self._is_over():
            return
        contents = Plaintext(bytes(file_obj.contents))
        await self._call(lambda space: self._files.put(space, file_obj.name, contents, replace=not file_obj.exclusive))

    async def stat(self, path: bytes) -> SFTPAttrs:
        """Describe a file, or the directory."""
        if is_directory(path):
            return _DIRECTORY
        return _attributes(await self._file(file_name(path)))

    lstat = stat

    async def fstat(self, file_obj: object) -> SFTPAttrs:
        """Describe an open file."""
        assert isinstance(file_obj, OpenFile)
        return SFTPAttrs(size=len(file_obj.contents), permissions=stat.S_IFREG | 0o600)

    async def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:  # noqa: ARG002 - as asyncssh calls it
        """Change nothing: files have no owners, modes or times that could be set."""
        if not is_directory(path):
            file_name(path)

    async def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Change nothing, as `setstat`."""
        await self.setstat(path, attrs)

    async def fsetstat(self, _file_obj: object, _attrs: SFTPAttrs) -> None:
        """Change nothing, as `setstat`; clients do this during every upload."""

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List the files."""
        if not is_directory(path):
            raise asyncssh.SFTPNoSuchFile("there are no directories here")
        yield SFTPName(b".", attrs=_DIRECTORY)
        yield SFTPName(b"..", attrs=_DIRECTORY)
        for file in await self._list():
            yield SFTPName(file.file.encode(), attrs=_attributes(file))

    async def remove(self, path: bytes) -> None:
        """Delete a file."""
        name = file_name(path)
        await self._call(lambda space: self._files.delete(space, name))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file; one that exists is not replaced."""
        old, new = file_name(oldpath), file_name(newpath)
        await self._call(lambda space: self._files.rename(space, old, new))

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file as `rename`: what would be replaced may be a key in use."""
        await self.rename(oldpath, newpath)

    def realpath(self, path: bytes) -> bytes:
        """The path from the one directory."""
        return b"/" if is_directory(path) else b"/" + file_name(path).encode()

    async def mkdir(self, _path: bytes, _attrs: SFTPAttrs) -> None:
        """Refuse."""
        raise asyncssh.SFTPOpUnsupported("there are no directories here")

    async def rmdir(self, _path: bytes) -> None:
        """Refuse."""
        raise asyncssh.SFTPOpUnsupported("there are no directories here")

    async def readlink(self, _path: bytes) -> bytes:
        """Refuse."""
        raise asyncssh.SFTPOpUnsupported("there are no links here")

    async def symlink(self, _oldpath: bytes, _newpath: bytes) -> None:
        """Refuse."""
        raise asyncssh.SFTPOpUnsupported("there are no links here")

    async def link(self, _oldpath: bytes, _newpath: bytes) -> None:
        """Refuse."""
        raise asyncssh.SFTPOpUnsupported("there are no links here")

    async def statvfs(self, _path: bytes) -> "asyncssh.SFTPVFSAttrs":
        """Refuse: nothing is on a disk of this machine."""
        raise asyncssh.SFTPOpUnsupported("this is no file system")

    async def fstatvfs(self, _file_obj: object) -> "asyncssh.SFTPVFSAttrs":
        """Refuse, as `statvfs`."""
        raise asyncssh.SFTPOpUnsupported("this is no file system")

    async def fsync(self, _file_obj: object) -> None:
        """Do nothing: a file is durable once `close` is answered."""

    async def _file(self, name: str) -> KeyFile:
        for file in await self._list():
            if file.file == name:
                return file
        raise asyncssh.SFTPNoSuchFile(f"there is no file {name}")

    async def _list(self) -> list[KeyFile]:
        async def collect(space: FileSpace) -> list[KeyFile]:
            return [file async for file in self._files.list(space)]

        return await self._call(collect)

    async def _call(self, run: Callable[[FileSpace], Awaitable[T]]) -> T:
        """Call the vault. Raises `asyncssh.SFTPError`."""
        try:
            return await run(await self._find_space())
        except errors.NotFound as failure:
            raise asyncssh.SFTPNoSuchFile(failure.message) from None
        except (errors.PermissionDenied, errors.Unauthenticated) as failure:
            raise asyncssh.SFTPPermissionDenied(failure.message) from None
        except errors.KeyreeveError as failure:
            raise asyncssh.SFTPFailure(f"{failure.message} [{failure.reason}]") from None


def is_directory(path: bytes) -> bool:
    """Whether a path is the one directory."""
    return path in {b"", b"/", b".", b"./", b"/."}


def file_name(path: bytes) -> str:
    """The name of a file from its path. Raises `SFTPNoSuchFile` for what is outside of the one directory."""
    name = path.removeprefix(b"/").removeprefix(b"./")
    if not name or b"/" in name or name in {b".", b".."}:
        raise asyncssh.SFTPNoSuchFile("there are no directories here")
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise asyncssh.SFTPNoSuchFile("the name is not UTF-8") from None
    if not text.isprintable():
        raise asyncssh.SFTPNoSuchFile("the name contains control characters")
    return text


def _opened(file_obj: object, *, writing: bool) -> OpenFile:
    assert isinstance(file_obj, OpenFile)
    if file_obj.writing is not writing:
        raise asyncssh.SFTPPermissionDenied("the file was not opened for this")
    return file_obj


def _attributes(file: KeyFile) -> SFTPAttrs:
    updated = int(file.updated_at.timestamp())
    return SFTPAttrs(
        type=asyncssh.FILEXFER_TYPE_REGULAR,
        size=file.size,
        permissions=stat.S_IFREG | 0o600,
        uid=0,
        gid=0,
        atime=updated,
        mtime=updated,
    )
