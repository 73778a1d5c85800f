"""The files of a renewal, which are written beside the old pair, then moved.

The new key and its certificate are named `NAME.next`. The key is moved first; between the two moves the certificate in
`NAME.next` belongs to the key that is in place, and a reader takes it from there (`keyreeve.credentials`). One process at
a time replaces a pair.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def next_to(path: Path) -> Path:
    """The path of the file that is to replace another."""
    return path.with_name(f"{path.name}.next")


@contextmanager
def turn(key: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock the pair of a key against other processes.

    Yields False when another process has locked it.

    With `wait` it blocks until the lock is free, which an event loop must not do. The directory is locked, so no lock file
    is left behind. Raises `OSError`.
    """
    directory = os.open(key.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours = True
        except BlockingIOError:
            ours = False
        yield ours
    finally:
        os.close(directory)


def finish(certificate: Path, key: Path) -> bool:
    """Move a new key and its certificate into place if there is a new certificate.

    Returns whether there was.

    Any step may be repeated after a crash. The caller must hold the lock of `turn`. Raises `OSError`.
    """
    waiting, following = next_to(certificate), next_to(key)
    if not waiting.exists():
        return False
    if following.exists():
        following.replace(key)
    waiting.replace(certificate)
    return True


def forget(certificate: Path, key: Path) -> None:
    """Delete a new pair that is no longer wanted.

    The caller must hold the lock of `turn`. Raises `OSError`.
    """
    next_to(certificate).unlink(missing_ok=True)  # first: without its key it must never be moved
    next_to(key).unlink(missing_ok=True)
