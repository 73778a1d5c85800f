"""The number of certificates per step of a bulk revocation."""

import pytest

from keyreeve_ca.revocation.bulk import STEP, next_size


@pytest.mark.parametrize(
    ("size", "worked", "expected"),
    [
        (50, 0.004, 38),  # twice too long: half as many would fit, and half of the way is gone
        (30, 0.001, 45),
        (30, 0.002, 30),
        (50, 10.0, 25),
        (25, 10.0, 25),
        (40, 0.0001, STEP),
        (30, 0.0, 40),
    ],
)
def test_a_step_grows_and_shrinks_with_the_time_that_the_one_before_took(
    size: int, worked: float, expected: int
) -> None:
    assert next_size(size, worked) == expected


def test_a_step_never_leaves_its_bounds() -> None:
    size = STEP
    for worked in (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0):
        size = next_size(size, worked)
        assert 25 <= size <= STEP
    assert size >= STEP - 1
