"""Property tests that run with fixed examples, so that a failure is reproducible, and with new ones.

`make test` tries a third of the examples of each kind; all of them, new ones, are tried among the faults.
"""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy


def for_all(
    *, examples: int = 300, **strategies: SearchStrategy
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a test of a function that must hold for everything the strategies draw.

    A failure of the random run prints a line (`reproduce_failure`) that repeats it.
    """

    def decorate(holds: Callable[..., None]) -> Callable[..., None]:
        def test(seed: str) -> None:
            profile = settings(
                derandomize=seed == "fixed",
                database=None,
                deadline=None,
                max_examples=examples if seed == "many" else examples // 3,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            )
            profile(given(**strategies)(holds))()

        test.__name__ = holds.__name__
        test.__doc__ = holds.__doc__
        return pytest.mark.parametrize("seed", ["fixed", "random", pytest.param("many", marks=pytest.mark.faults)])(
            test
        )

    return decorate
