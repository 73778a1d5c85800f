"""Atomic writing of files that other processes may be reading."""

import os
import secrets
from pathlib import Path

PRIVATE = 0o600
"""Mode of files that contain a secret: only their owner may read them."""
PUBLIC = 0o644
"""Mode of files that contain certificates and addresses."""


def write_atomically(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replace a file atomically and durably.

    The data goes to a new file in the same directory, which never has a wider mode than `mode`, is flushed to disk and
    renamed; the directory is flushed last, so that the new name is on disk when this returns. Raises `OSError`; the file
    is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL: never into a file, or through a link, that another user has put there.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # the process's umask may have taken bits away that PUBLIC needs
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    """Flush the names in a directory to disk. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
