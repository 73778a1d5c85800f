"""A worker's view of trusted callers: used on every call, built once for each snapshot."""

from types import SimpleNamespace
from typing import Any, cast

from keyreeve_ca.revocation.known_revocations import TrustViews


def snapshot(version: int, *names: str) -> SimpleNamespace:
    person = SimpleNamespace(person_uid=b"u" * 16, since=7)
    return SimpleNamespace(
        trust_domain="example.test",
        config_version=version,
        operators=dict.fromkeys(names, person),
        control_issuers=lambda: (),
    )


def test_it_is_made_anew_with_each_snapshot_and_not_with_each_call() -> None:
    views = TrustViews(cast("Any", snapshot(1, "ann")))
    first = views.current()
    views.show(cast("Any", snapshot(1, "ann")))
    assert views.current() is first
    assert set(first.operators or ()) == {"ann"}
    views.show(cast("Any", snapshot(2, "ann", "bob")))
    assert set(views.current().operators or ()) == {"ann", "bob"}
    assert views.current().generation == 2
