"""Small secret files: created atomically, and read only while no other user can access them."""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from keyreeve_chassis.keys.ports import KeyStoreError


def create_private_file(path: Path, content: bytes, what: str) -> None:
    """Create a complete, durable file of mode 0600. Raises `KeyStoreError` when the path exists.

    It is written under another name and then linked, so that a crash leaves either nothing under `path` or all of it:
    half a secret would keep the next start from making one and be of no use.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyStoreError(f"{what} {path} cannot be made: {error.strerror}", "Make its directory writable") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.link(partial, path)
    except FileExistsError as error:
        raise KeyStoreError(f"{what} {path} exists", "Use it, or move it away; it is never overwritten") from error
    finally:
        partial.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_private_file(path: Path, maximum: int, what: str) -> bytes:
    """Read a regular file that is ours, of mode 0600 or 0400, up to `maximum` bytes."""
    return _read(path, maximum, what, os.O_NOFOLLOW, _refuse_unless_private)


def read_mounted_file(path: Path, maximum: int, what: str) -> bytes:
    """Read a mounted secret, up to `maximum` bytes.

    Kubernetes mounts secrets as symbolic links to files of root's that a group may read, so links, root and the group's
    reading are allowed here; writing by the group and anything by others are not.
    """
    return _read(path, maximum, what, 0, _refuse_unless_mounted_privately)


def _read(path: Path, maximum: int, what: str, flags: int, check: Callable[[Path, str, os.stat_result], None]) -> bytes:
    try:
        # O_NONBLOCK: a pipe under this name must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    except FileNotFoundError as error:
        raise KeyStoreError(
            f"{what} {path} is missing", "Restore it from where it is kept; nothing that it protects opens without it"
        ) from error
    except OSError as error:
        why = "is a symbolic link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise KeyStoreError(f"{what} {path} {why}", "Name a plain file that the service can read") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeyStoreError(f"{what} {path} is not a plain file", "Name a plain file")
        check(path, what, status)
        return os.read(descriptor, maximum)
    finally:
        os.close(descriptor)


def _refuse_unless_private(path: Path, what: str, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise KeyStoreError(
            f"{what} {path} belongs to user {status.st_uid}, not to {os.geteuid()}",
            f"chown {os.geteuid()} {path}, after asking how it came to be another's",
        )
    if stat.S_IMODE(status.st_mode) & ~0o600:
        raise KeyStoreError(
            f"{what} {path} has mode {stat.S_IMODE(status.st_mode):04o}",
            f"chmod 600 {path}, and think about who may have read it",
        )


def _refuse_unless_mounted_privately(path: Path, what: str, status: os.stat_result) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        raise KeyStoreError(
            f"{what} {path} belongs to user {status.st_uid}, neither root nor {os.geteuid()}",
            "Mount the secret as root or as the service's user",
        )
    if stat.S_IMODE(status.st_mode) & ~0o740:
        raise KeyStoreError(
            f"{what} {path} has mode {stat.S_IMODE(status.st_mode):04o}",
            "Mount the secret with defaultMode 0400 (0440 with an fsGroup)",
        )
