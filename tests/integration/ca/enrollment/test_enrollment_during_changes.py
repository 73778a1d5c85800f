"""Enrollment while issuance is halted, and after the root of the control hierarchy has been replaced."""

from pathlib import Path

import pytest

from keyreeve import errors
from keyreeve.enrollee_files import fetch_root
from keyreeve.enrollment import enroll
from keyreeve.token_values import TokenState
from keyreeve.values import AuthorityKind, Hierarchy
from support.enrolling import OPEN_TO_TESTS, enrolling_ca, new_token
from support.running_ca import RunningCa, running
from support.waiting import wait_for

__all__ = ["enrolling_ca"]


def test_a_halt_refuses_enrollment_and_uses_no_token_up(enrolling_ca: RunningCa, tmp_path: Path) -> None:
    token = new_token(enrolling_ca)
    enrolling_ca.client().issuance.halt("for a test")
    try:
        with pytest.raises(errors.IssuanceHalted):
            enroll(token, tmp_path, timeout=8)
        assert enrolling_ca.read(lambda tx: tx.tokens.get(token.token_id)).state == TokenState.OPEN
    finally:
        enrolling_ca.client().issuance.resume("the test is over")
    enroll(token, tmp_path)


@pytest.mark.parametrize("kind", ["sqlite"])
def test_tokens_and_listener_follow_the_newest_root(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with running(kind, request, workers=2, enroll=OPEN_TO_TESTS) as ca:
        authorities, before = ca.client().authorities, new_token(ca)
        authorities.create("second", hierarchy=Hierarchy.CONTROL, kind=AuthorityKind.ROOT, common_name="second")
        authorities.activate("second")
        authorities.create(
            "below", hierarchy=Hierarchy.CONTROL, kind=AuthorityKind.INTERMEDIATE, common_name="below", issuer="second"
        )
        ca.clock.offset = 1
        authorities.activate("below")
        second = authorities.get("second").certificate_der

        def shown() -> bool:
            after = [new_token(ca, worker=worker) for worker in (0, 1)]
            try:
                return [fetch_root(token, 5) for token in after] == [second, second]
            except errors.EnrollmentRootWrong:
                return False

        wait_for("both listeners lead to the new root", shown)
        enroll(new_token(ca), tmp_path / "after", now=ca.clock.now)
        with pytest.raises(errors.EnrollmentRootWrong):
            enroll(before, tmp_path / "before")
