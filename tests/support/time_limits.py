"""A time limit of its own for what comes before a test, and for what comes after it.

The limit of pytest-timeout counts the test's own function (`timeout_func_only`). A test that is the first to need what a
whole process or run shares starts it, or waits until another process has started it, and the last one stops it: work
that has nothing to do with the test, and whose own waits have limits of at most 120 s that say what they wait for.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import pytest_timeout

PHASE_SECONDS = 300.0


@contextmanager
def phase_limit(item: pytest.Item) -> Iterator[None]:
    """Fail the setup or teardown of a test, with the stacks of all threads, when it takes too long."""
    settings = pytest_timeout.Settings(PHASE_SECONDS, "signal", True, False)
    item.config.hook.pytest_timeout_set_timer(item=item, settings=settings)
    try:
        yield
    finally:
        item.config.hook.pytest_timeout_cancel_timer(item=item)
