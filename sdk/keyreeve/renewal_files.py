"""The files of a renewal, which are written beside the old pair, then moved.

The new key and its certificate are named `NAME.next`. The key is moved first; between the two moves the certificate in
`NAME.next` belongs to the key that is in place, and a reader takes it from there (`keyreeve.channel_credentials`). One process at
a time replaces a pair.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def next_path(path: Path) -> Path:
    """The path of the file that is to replace another."""
    return path.with_name(f"{path.name}.next")


@contextmanager
def lock_pair(key: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock the pair of a key against other processes.

    Yields False when another process has locked it.

    With `wait` it blocks until the lock is free, which an event loop must not do. The directory is locked, so no lock file
    is left behind. Raises `OSError`.
    """
    directory = os.open(key.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            locked = True
        except BlockingIOError:
            locked = False
        yield locked
    finally:
        os.close(directory)


def complete_renewal(certificate: Path, key: Path) -> bool:
    """Move a new key and its certificate into place if there is a new certificate.

    Returns whether there was.

    Any step may be repeated after a crash. The caller must hold the lock of `lock_pair`. Raises `OSError`.
    """
    new_certificate, new_key = next_path(certificate), next_path(key)
    if not new_certificate.exists():
        return False
    if new_key.exists():
        new_key.replace(key)
    new_certificate.replace(certificate)
    return True


def discard_renewal(certificate: Path, key: Path) -> None:
    """Delete a new pair that is no longer wanted.

    The caller must hold the lock of `lock_pair`. Raises `OSError`.
    """
    next_path(certificate).unlink(missing_ok=True)  # first: without its key it must never be moved
    next_path(key).unlink(missing_ok=True)
