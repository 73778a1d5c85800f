"""Files that somebody else may be reading: they appear whole, under their final name, with the right mode, or not at all."""

import os
import secrets
from pathlib import Path

PRIVATE = 0o600
"""Mode of files that hold a private key: their owner alone may read them."""
PUBLIC = 0o644
"""Mode of files that hold certificates and addresses."""


def write_atomically(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replace `path` by `data` in one step that survives a crash.

    The bytes go to a new file beside it, which never had a wider mode than `mode`, are flushed to disk and renamed; the
    directory is flushed last, so that the new name is on disk when this returns. Raises `OSError`; `path` is then as it
    was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # O_EXCL: never into a file, or through a link, that somebody else put there.
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
    _flush_directory(path.parent)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
