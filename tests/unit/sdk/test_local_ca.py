"""How `keyreeve.testing` finds a service without importing one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import keyreeve.testing
from keyreeve.testing import local_ca
from keyreeve.testing.fixtures import keyreeve_ca


class Entry:
    def __init__(self, start: Any) -> None:
        self.start = start

    def load(self) -> Any:
        if isinstance(self.start, Exception):
            raise self.start
        return self.start


def offer(monkeypatch: pytest.MonkeyPatch, *starts: Any) -> None:
    def entry_points(*, group: str, name: str) -> list[Entry]:
        assert (group, name) == ("keyreeve.testing", "ca")
        return [Entry(start) for start in starts]

    monkeypatch.setattr(keyreeve.testing, "entry_points", entry_points)


def test_it_is_started_in_a_directory_of_its_own_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    sentinel: Any = object()

    def start(directory: Path, trust_domain: str) -> Any:
        assert directory.is_dir()
        seen.extend([directory, trust_domain])
        return SimpleNamespace(context=sentinel, stop=lambda: seen.append(directory.is_dir()))

    offer(monkeypatch, start)
    with local_ca(trust_domain="a.test") as context:
        assert context is sentinel
    assert seen[1:] == ["a.test", True], "stopped while its directory was there"
    assert not seen[0].exists()


def test_it_is_stopped_when_the_test_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    offer(monkeypatch, lambda *_: SimpleNamespace(context=None, stop=lambda: stopped.append(True)))
    with pytest.raises(ZeroDivisionError), local_ca():
        raise ZeroDivisionError
    assert stopped == [True]


@pytest.mark.parametrize("starts", [(), (ModuleNotFoundError("No module named 'sqlalchemy'"),)])
def test_without_the_service_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, starts: tuple[Any, ...]) -> None:
    offer(monkeypatch, *starts)
    with pytest.raises(ImportError, match=r"pip install 'keyreeve\[server\]'"), local_ca():
        pass


def test_the_fixture_is_there_for_users() -> None:
    assert keyreeve_ca is not None
