"""The note about arrays and servers that membership does not know."""

from types import SimpleNamespace
from typing import Any

import pytest

from keyreeve.cli.vault.places import note_unknown
from keyreeve.errors import ArrayNotFound, KeyreeveError, MemberNotFound, ServiceUnreachable

PLACES = {"web-1.example.com": "web", "db-1.example.com": "sales"}


def client(failure: KeyreeveError | None = None) -> Any:
    """A client whose membership service has the arrays `web` and `sales`."""

    def array(name: str, *, timeout: float) -> str:
        assert timeout < 5
        if failure is not None:
            raise failure
        if name not in PLACES.values():
            raise ArrayNotFound("no array")
        return name

    def member(name: str, *, timeout: float) -> SimpleNamespace:
        assert timeout < 5
        if name not in PLACES:
            raise MemberNotFound("no member")
        return SimpleNamespace(array=f"arrays/{PLACES[name]}")

    return SimpleNamespace(
        membership=SimpleNamespace(arrays=SimpleNamespace(get=array), members=SimpleNamespace(get=member))
    )


@pytest.mark.parametrize(
    ("array", "server", "note"),
    [
        ("web", "", ""),
        ("arrays/web", "web-1.example.com", ""),
        ("nosuch", "", "membership knows no array 'nosuch'"),
        ("nosuch", "web-1.example.com", "membership knows no array 'nosuch'"),
        ("web", "nosuch.example.com", "membership knows no server 'nosuch.example.com'"),
        ("web", "db-1.example.com", "the server 'db-1.example.com' is in the array 'sales', not in 'web'"),
    ],
)
def test_a_place_that_membership_does_not_know_is_noted(
    array: str, server: str, note: str, capsys: pytest.CaptureFixture[str]
) -> None:
    note_unknown(client(), array, server)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"note: {note}") if note else printed.err == ""


def test_there_is_no_note_when_membership_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    note_unknown(client(ServiceUnreachable("refused")), "nosuch", "nosuch.example.com")
    assert capsys.readouterr().err == ""
