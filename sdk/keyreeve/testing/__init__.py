"""A real certificate authority inside a test.

`with keyreeve.testing.local_ca() as context: Client(context) ...`

`keyreeve.testing.fixtures` has it as a pytest fixture. The service itself is part of `pip install 'keyreeve[server]'`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, cast

from keyreeve.context import Context

GROUP = "keyreeve.testing"
"""Group of the entry points by which tests find services; the SDK imports no service."""


class LocalService(Protocol):
    """A service that runs in this process, on loopback, until it is stopped."""

    @property
    def context(self) -> Context:
        """The context to call it with, as an admin."""
        ...

    def stop(self) -> None:
        """Stop after the calls in progress; nothing of it is left running."""
        ...


Start = Callable[[Path, str], LocalService]
"""Type of the entry point `ca`: takes an empty directory and a trust domain; returns when the service is ready."""


@contextmanager
def local_ca(*, trust_domain: str = "keyreeve.test") -> Iterator[Context]:
    """Run a certificate authority in this process, on loopback.

    Its state is in a temporary directory.

    Yields the context of an admin of a new control plane. Raises `ImportError` when the service is not installed.
    """
    start = _find()
    with TemporaryDirectory(prefix="keyreeve-") as directory:
        service = start(Path(directory), trust_domain)
        try:
            yield service.context
        finally:
            service.stop()


def _find() -> Start:
    for entry in entry_points(group=GROUP, name="ca"):
        try:
            return cast("Start", entry.load())
        except ImportError as failure:
            raise ImportError(f"{_ADVICE} ({failure})", name=failure.name) from failure
    raise ImportError(_ADVICE)


_ADVICE = "keyreeve.testing runs the real certificate authority, which is not installed: pip install 'keyreeve[server]'"
