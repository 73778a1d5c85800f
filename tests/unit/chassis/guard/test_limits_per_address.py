"""Limits per network address for callers without an identity."""

import pytest

from keyreeve.errors import TooManyInFlight
from keyreeve_chassis.guard import admission as limits
from keyreeve_chassis.guard.admission import PerAddress


class Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


def test_concurrent_calls_are_limited_per_address(clock: Time) -> None:
    per_address = PerAddress(2, 1000, 1000, clock)
    with per_address.admit("ipv4:192.0.2.1:10"), per_address.admit("ipv4:192.0.2.1:11"):
        with pytest.raises(TooManyInFlight) as caught, per_address.admit("ipv4:192.0.2.1:12"):
            pass
        assert caught.value.retry_after is not None
        with per_address.admit("ipv4:192.0.2.2:10"):
            pass
    with per_address.admit("ipv4:192.0.2.1:12"):
        pass


def test_a_call_that_fails_is_counted_as_ended(clock: Time) -> None:
    per_address = PerAddress(1, 1000, 1000, clock)
    with pytest.raises(KeyError), per_address.admit("ipv4:192.0.2.1:10"):
        raise KeyError
    with per_address.admit("ipv4:192.0.2.1:10"):
        pass


def test_calls_over_time_are_limited_with_a_retry_delay(clock: Time) -> None:
    per_address = PerAddress(10, 2, 3, clock)
    for _ in range(3):
        with per_address.admit("ipv4:192.0.2.1:10"):
            pass
    with pytest.raises(TooManyInFlight) as caught, per_address.admit("ipv4:192.0.2.1:10"):
        pass
    assert caught.value.retry_after is not None
    assert caught.value.retry_after.total_seconds() == pytest.approx(0.5)
    clock.now += 0.5
    with per_address.admit("ipv4:192.0.2.1:10"):
        pass


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("ipv4:192.0.2.1:1", "ipv4:192.0.2.1:2", True),
        ("ipv4:192.0.2.1:1", "ipv4:192.0.2.2:1", False),
        ("ipv6:%5B2001:db8::1%5D:1", "ipv6:%5B2001:db8::ffff%5D:9", True),
        ("ipv6:[2001:db8::1]:1", "ipv6:[2001:db8:0:1::1]:1", False),
        ("unix:/a", "unix:/a", True),
    ],
)
def test_an_address_is_a_host_or_a_64_of_ipv6(clock: Time, one: str, other: str, same: bool) -> None:
    per_address = PerAddress(1, 1000, 1000, clock)
    with per_address.admit(one):
        if same:
            with pytest.raises(TooManyInFlight), per_address.admit(other):
                pass
        else:
            with per_address.admit(other):
                pass


def test_addresses_are_forgotten_when_there_are_many(clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MOST_ADDRESSES", 5)
    per_address = PerAddress(1, 1, 2, clock)
    for number in range(50):
        with per_address.admit(f"ipv4:192.0.2.{number}:1"):
            pass
    assert len(per_address._buckets) <= 5
    clock.now += 10
    with per_address.admit("ipv4:198.51.100.1:1"):
        pass
    assert len(per_address._buckets) <= 5
