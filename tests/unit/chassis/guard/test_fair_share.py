"""Work in progress is bounded by weight: in total, and for one caller."""

from datetime import timedelta

import pytest

from keyreeve.errors import TooManyInFlight
from keyreeve_chassis.guard.admission import FairShare

RETRY_AFTER = timedelta(milliseconds=200)


def share(most: int = 1000) -> FairShare:
    return FairShare("certificates", most, RETRY_AFTER)


def test_beyond_the_total_a_call_is_refused_at_once_with_a_retry_delay() -> None:
    admission = share()
    for caller in range(10):
        admission.enter(caller, 100)
    with pytest.raises(TooManyInFlight, match="1000 certificates are in progress here, 0 of them for you") as refused:
        admission.enter("one too many", 1)
    assert refused.value.retry_after == RETRY_AFTER
    assert refused.value.metadata == {"most": "1000", "in_hand": "1000", "yours": "0"}
    admission.leave(0, 100)
    admission.enter("one too many", 100)


def test_one_caller_cannot_take_all_the_room() -> None:
    admission = share()
    admission.enter("heavy", 750)
    with pytest.raises(TooManyInFlight, match="750 of them for you") as refused:
        admission.enter("heavy")
    assert refused.value.metadata == {"most": "750", "in_hand": "750", "yours": "750"}
    admission.enter("modest", 250)
    admission.leave("heavy", 750)
    admission.enter("heavy", 750)


def test_what_would_be_refused_can_be_known_before_and_counts_nothing() -> None:
    admission = share()
    for _ in range(20):
        admission.refuse_beyond("a", 750)
    with pytest.raises(TooManyInFlight):
        admission.refuse_beyond("a", 751)
    admission.enter("a", 750)


def test_a_refused_call_takes_no_room() -> None:
    admission = share(10)
    with pytest.raises(TooManyInFlight):
        admission.enter("a", 8)
    admission.enter("a", 7)
    admission.enter("b", 3)


def test_even_the_smallest_bound_admits_a_caller() -> None:
    admission = share(1)
    admission.enter("a")
    admission.leave("a")
    admission.enter("b")
