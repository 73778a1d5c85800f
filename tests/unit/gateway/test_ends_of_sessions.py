"""A session is over once it was closed, and once its operator is one no more."""

from types import SimpleNamespace
from typing import Any

import pytest

from keyreeve_chassis.guard.peers import OperatorRecord
from keyreeve_gateway.app import why_over

ANN = "spiffe://example.test/operators/admin/ann"
SESSION: Any = SimpleNamespace(name="sessions/one", identity=ANN, person_uid="ann-1")


def identity(*closed: str, operators: dict[str, OperatorRecord] | None) -> Any:
    """What a process knows: the numbers of closed sessions, and the operators."""
    return SimpleNamespace(
        revocations=SimpleNamespace(is_session_closed=lambda number: number in closed),
        trust_view=lambda: SimpleNamespace(operators=operators),
    )


@pytest.mark.parametrize(
    ("known", "why"),
    [
        (identity(operators={ANN: OperatorRecord("ann-1", 0)}), None),
        (identity("two", operators=None), None),  # operators have not been asked for
        (identity("one", operators={ANN: OperatorRecord("ann-1", 0)}), "the session was closed"),
        (identity(operators={}), f"{ANN} is no operator any more"),
        (identity(operators={ANN: OperatorRecord("another person", 0)}), f"{ANN} is no operator any more"),
    ],
    ids=["open", "not asked", "closed", "removed", "another person of the same name"],
)
def test_why_a_session_is_over(known: Any, why: str | None) -> None:
    over = why_over(known, SESSION)
    assert (None if over is None else over.message) == why
