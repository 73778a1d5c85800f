"""The files of a renewal: the new pair waits beside the old one, and one process at a time moves it into place.

A new key and its certificate wait as `NAME.next`. The key is moved first; between the two moves the certificate that
waits fits the key that is in place, and whoever reads the pair then takes it from there (`keyreeve.credentials`).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def next_to(path: Path) -> Path:
    """Where what is to replace a file waits."""
    return path.with_name(f"{path.name}.next")


@contextmanager
def turn(key: Path, *, wait: bool = False) -> Iterator[bool]:
    """Be the one who replaces the pair of a key, among all processes; yields False when somebody else is.

    With `wait` it is waited for, which belongs in no event loop. What is locked is the directory, so no file is left
    behind. Raises `OSError`.
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
    """Put a new key and its certificate in place if a certificate is waiting, and say whether one was.

    Any step may be repeated after a crash. Only in one's `turn`. Raises `OSError`.
    """
    waiting, following = next_to(certificate), next_to(key)
    if not waiting.exists():
        return False
    if following.exists():
        following.replace(key)
    waiting.replace(certificate)
    return True


def forget(certificate: Path, key: Path) -> None:
    """Drop what is waiting: the pair has been replaced by another. Only in one's `turn`. Raises `OSError`."""
    next_to(certificate).unlink(missing_ok=True)  # first: without its key it must never be moved
    next_to(key).unlink(missing_ok=True)
