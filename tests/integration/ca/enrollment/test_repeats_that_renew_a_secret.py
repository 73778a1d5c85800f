"""Repeats of requests whose response comes with a secret: the secret is not stored, so a repeat makes another one.

A repeat that comes when the token was used already is refused, and its record says so: none says that it succeeded.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from keyreeve.audit.record import Record
from keyreeve.enrollment import enroll
from keyreeve.enrollment_token import EnrollmentToken
from keyreeve.errors import TokenUsed
from keyreeve.request_ids import new_request_id
from keyreeve.values import OperatorRole
from support.enrolling import address_of, enrolling_ca
from support.running_ca import AUDITOR, RunningCa, unique
from support.waiting import wait_for

__all__ = ["enrolling_ca"]
Ask = Callable[[], str]


def asking(ca: RunningCa, what: str, request_id: str) -> Ask:
    """A request that can be repeated word for word; it answers the text of a token."""
    client, address = ca.client(), address_of(ca)
    if what == "token":
        identity = ca.identity(f"members/{unique('host')}.example.test")
        return lambda: client.tokens.create(identity, address=address, request_id=request_id).text
    name = unique("person")
    if what == "role":
        client.operators.invite(name, OperatorRole.AUDITOR, address=address)
        return lambda: (
            client.operators.update(name, role=OperatorRole.OPERATOR, address=address, request_id=request_id).token
        )
    return lambda: client.operators.invite(name, OperatorRole.OPERATOR, address=address, request_id=request_id).token


def records_of(ca: RunningCa, request_id: str, count: int) -> list[Record]:
    """All records of a request, once there are so many."""

    def look() -> list[Record] | None:
        found = [one.record for one in ca.client(AUDITOR).audit.list(id=request_id)]
        return found if len(found) >= count else None

    return wait_for(f"{count} records of the request", look)


@pytest.mark.parametrize("what", ["token", "invitation", "role"])
def test_a_repeat_before_the_token_is_used_gets_another_secret_and_the_first_is_void(
    enrolling_ca: RunningCa, what: str, tmp_path: Path
) -> None:
    request_id = new_request_id()
    ask = asking(enrolling_ca, what, request_id)
    first, second = EnrollmentToken.parse(ask()), EnrollmentToken.parse(ask())
    assert first.token_id == second.token_id
    assert first.secret != second.secret
    enroll(second.text(), tmp_path / "second")
    assert [r.code for r in records_of(enrolling_ca, request_id, 2)] == ["OK", "OK"]


@pytest.mark.parametrize("what", ["token", "invitation", "role"])
def test_a_repeat_after_the_token_was_used_is_refused_and_no_record_says_that_it_succeeded(
    enrolling_ca: RunningCa, what: str, tmp_path: Path
) -> None:
    request_id = new_request_id()
    ask = asking(enrolling_ca, what, request_id)
    enroll(ask(), tmp_path / "first")
    with pytest.raises(TokenUsed):
        ask()
    found = records_of(enrolling_ca, request_id, 2)
    assert sorted((r.code, r.reason) for r in found) == [("FAILED_PRECONDITION", "TOKEN_USED"), ("OK", "")]
