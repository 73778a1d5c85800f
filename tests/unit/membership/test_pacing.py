"""The budget for renewals, and the spread of their times."""

import pytest

from keyreeve.errors import RenewalPaced
from keyreeve_membership.renewals.pacing import Pace
from keyreeve_membership.renewals.times import LIFETIME_SECONDS, renewal_time
from keyreeve_membership.roll.ports import Report

DAY = 86_400


def test_servers_with_much_time_wait_and_those_with_little_do_not() -> None:
    now = [100.0]
    pace = Pace(10, lambda: now[0], burst_seconds=2)
    for _ in range(16):
        pace.admit("busy.example.test", 0.5 * DAY)
    with pytest.raises(RenewalPaced) as told:
        pace.admit("long.example.test", 5 * DAY)
    assert told.value.retry_after is not None
    assert 1 <= told.value.retry_after.total_seconds() <= 30
    pace.admit("short.example.test", 0.5 * DAY)
    now[0] += 10
    pace.admit("long.example.test", 5 * DAY)


def test_renewals_are_spread_over_a_sixth_of_the_lifetime() -> None:
    report = Report("u", 0, 0, "b" * 16, None, (), "c", "a", LIFETIME_SECONDS, None, None, stopped=False)
    times = [renewal_time(f"server-{i}.example.test", report) or 0 for i in range(200)]
    due = LIFETIME_SECONDS * 2 // 3
    assert all(due - LIFETIME_SECONDS // 6 <= time <= due for time in times)
    assert len({time // (DAY // 6) for time in times}) >= 6
    assert times == [renewal_time(f"server-{i}.example.test", report) for i in range(200)]
