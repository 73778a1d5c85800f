"""Limits on reads: a rate for each reader, and an alarm for unusually many owners."""

import pytest

from keyreeve.errors import ReadRateExceeded
from keyreeve_credentials.policies.limits import ReadLimits


class Limits:
    """Limits on a clock of the test."""

    def __init__(self) -> None:
        self.now = 0.0
        self.alarms: list[tuple[str, int]] = []
        self.limits = ReadLimits(
            per_second=2,
            burst=5,
            unusual_owners=3,
            clock=lambda: self.now,
            unusual=lambda reader, owners: self.alarms.append((reader, owners)),
        )


def test_a_reader_has_a_burst_and_then_a_rate_of_its_own() -> None:
    made = Limits()
    for _ in range(5):
        made.limits.count("a", "o")
    with pytest.raises(ReadRateExceeded) as refused:
        made.limits.count("a", "o")
    assert refused.value.retry_after is not None
    made.limits.count("b", "o")
    made.now = 0.5
    made.limits.count("a", "o")
    with pytest.raises(ReadRateExceeded):
        made.limits.count("a", "o")


def test_a_reader_of_many_owners_raises_one_alarm_in_a_minute() -> None:
    made = Limits()
    for number in range(12):
        made.now = number * 1.0
        made.limits.count("a", f"owner {number % 6}")
    assert made.alarms == [("a", 3)]
    assert made.limits.most_owners() == 4
    made.now = 80.0
    assert made.limits.most_owners() == 0
    for number in range(4):
        made.limits.count("a", f"owner {number}")
    assert made.alarms == [("a", 3)] * 2


def test_one_owner_read_often_is_usual() -> None:
    made = Limits()
    for number in range(20):
        made.now = number * 1.0
        made.limits.count("a", "one")
    assert made.alarms == []
