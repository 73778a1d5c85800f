"""How long members wait before they call all at once."""

from keyreeve_agent.control.pacing import retry_seconds, spread_seconds


def test_members_of_a_large_array_come_one_after_the_other() -> None:
    assert spread_seconds(3, 1.0) < 0.05
    assert spread_seconds(500, 0.0) == 0
    assert spread_seconds(500, 1.0) == 5


def test_members_of_a_large_array_come_back_later_each_time() -> None:
    assert [retry_seconds(3, failures, 0.5) for failures in (1, 2, 50)] == [2, 2, 2]
    assert [retry_seconds(500, failures, 0.5) for failures in (1, 2, 3, 4, 5, 500)] == [2, 4, 8, 16, 25, 25]
    assert (retry_seconds(3, 1, 0.0), retry_seconds(3, 1, 1.0)) == (1, 3)
