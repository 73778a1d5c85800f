"""The lock that makes one process the coordinator of a SQLite file, and the refusal of file systems that cannot lock."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from keyreeve_chassis.processes.refusals import StartRefused

_NETWORK_FILE_SYSTEMS = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "fuse.davfs",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "smb2",
        "smb3",
        "smbfs",
        "virtiofs",
    ]
)
MOUNTS = Path("/proc/self/mountinfo")


class DatabaseRefused(StartRefused):
    """The database cannot be used as it is; the message says why and what to do. A service then does not start."""


def file_system_type(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds `path`, from the text of mountinfo (proc(5)); empty when unknown."""
    resolved = path.resolve()
    longest, found = -1, ""
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        mount_point = Path(fields.split()[4].encode().decode("unicode_escape"))
        # Of two mounts at one place the later hides the earlier.
        if resolved.is_relative_to(mount_point) and len(mount_point.parts) >= longest:
            longest, found = len(mount_point.parts), rest.split()[0]
    return found


def refuse_network_file_system(path: Path, mounts: str | None = None) -> None:
    """Raise `DatabaseRefused` when `path` lies on a network file system: their locks do not keep two writers apart."""
    if mounts is None:
        mounts = MOUNTS.read_text() if MOUNTS.exists() else ""
    kind = file_system_type(path, mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise DatabaseRefused(
            f"{path} is on a network file system ({kind}), whose locks cannot keep two processes from writing to one "
            "SQLite file: use a local disk, or PostgreSQL"
        )


class FileLock:
    """An exclusive lock on `<database>.lock`, held until `release` or the end of the process."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> Self:
        """Take the lock without waiting. Raises `DatabaseRefused` when another process holds it."""
        refuse_network_file_system(self._path.parent)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DatabaseRefused(
                f"another process ({holder or 'its number is unknown'}) keeps {self._path.with_suffix('')}: "
                "a SQLite database has one writer; stop that process first (`keyreeve down`)"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Release the lock. The file stays: after removing it two processes could lock two files."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.release()
