"""A worker's view of trusted callers: used on every call, built once for each snapshot."""

from types import SimpleNamespace
from typing import Any, cast

from keyreeve_ca.worker import _trust_views


def snapshot(version: int, *names: str) -> SimpleNamespace:
    person = SimpleNamespace(person_uid=b"u" * 16, since=7)
    return SimpleNamespace(
        trust_domain="example.test",
        config_version=version,
        operators=dict.fromkeys(names, person),
        control_issuers=lambda: (),
    )


def test_it_is_made_anew_with_each_snapshot_and_not_with_each_call() -> None:
    live = SimpleNamespace(now=snapshot(1, "ann"))
    live.current = lambda: live.now
    view = _trust_views(cast("Any", live))
    first = view()
    assert view() is first
    assert set(first.operators or ()) == {"ann"}
    live.now = snapshot(2, "ann", "bob")
    assert set(view().operators or ()) == {"ann", "bob"}
    assert view().generation == 2
