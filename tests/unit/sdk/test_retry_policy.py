"""When and after which delay a call is retried."""

from datetime import timedelta

import pytest

from keyreeve import errors
from keyreeve.errors import KeyreeveError, ServiceStopping, TooManyInFlight
from keyreeve.request_ids import new_request_id, uuid7
from keyreeve.retry import NO_RETRY, Backoff, RetryPolicy, is_transient

LONG = 1e9


def waits(policy: RetryPolicy, error: KeyreeveError, jitter: float, attempts: int = 20) -> list[float]:
    backoff = Backoff(policy, lambda: jitter)
    found = (backoff.delay(error, LONG) for _ in range(attempts))
    return [wait for wait in found if wait is not None]


def test_waits_double_up_to_the_longest() -> None:
    policy = RetryPolicy(attempts=6, initial=0.1, maximum=0.5)
    assert waits(policy, ServiceStopping("x"), 1.0) == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_jitter_is_full() -> None:
    assert waits(RetryPolicy(), ServiceStopping("x"), 0.0) == [0.0] * 5


def test_a_wait_that_was_asked_for_is_kept_with_jitter_on_top_and_does_not_count() -> None:
    error = TooManyInFlight("x", retry_after=timedelta(seconds=2))
    found = waits(RetryPolicy(attempts=2, initial=0.1, maximum=0.2), error, 0.5)
    assert len(found) == 20
    assert found[:3] == pytest.approx([2.05, 2.1, 2.1])


def test_a_wait_that_would_use_up_the_callers_time_is_not_begun() -> None:
    backoff = Backoff(RetryPolicy(), lambda: 1.0)
    assert backoff.delay(ServiceStopping("x"), remaining=0.1) is None


def test_one_attempt_is_one_attempt_even_when_asked_to_come_back() -> None:
    assert waits(NO_RETRY, ServiceStopping("x"), 0.5) == []
    assert waits(NO_RETRY, TooManyInFlight("x", retry_after=timedelta(seconds=1)), 0.5) == []


def test_weeks_of_failures_do_not_overflow() -> None:
    assert RetryPolicy().ceiling(10**9) == 5.0


def test_only_what_may_pass_by_itself_is_repeated() -> None:
    soon = timedelta(seconds=1)
    repeated = {reason for reason, kind in errors.register().items() if is_transient(kind("x", retry_after=soon))}
    by_code = {
        reason for reason, kind in errors.register().items() if kind.code in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
    }
    assert repeated == by_code
    assert "PROFILE_VERSION_STALE" not in repeated


def test_a_limit_without_a_time_is_not_repeated() -> None:
    assert not is_transient(TooManyInFlight("x"))


def test_a_request_id_is_the_uuid_of_its_time() -> None:
    # The example of RFC 9562, appendix A.6.
    random = (0xCC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(10)
    assert uuid7(0x017F22E279B0, random) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_later_request_ids_sort_later() -> None:
    ids = [uuid7(time, b"\xff" * 10) for time in (1, 2, 1 << 40, (1 << 48) - 1)]
    assert ids == sorted(ids)


def test_request_ids_differ() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000
