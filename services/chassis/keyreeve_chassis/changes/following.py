"""The loop of a follower: what it does when there may be something new, and when the database does not answer."""

import logging
import math
from collections.abc import Awaitable, Callable

from keyreeve.errors import StoreUnavailable
from keyreeve_chassis.database.ports import Wait

RETRY_SECONDS = 0.25

log = logging.getLogger(__name__)


async def follow_changes(
    what: str, wait: Wait, read: Callable[[], Awaitable[object]], most_seconds: float = math.inf
) -> None:
    """Run `read` whenever there may be something new, and every `most_seconds`, forever; `what` is for the log.

    Only a database that does not answer is outlasted: any other failure ends the follower, and should end its process.
    """
    seconds = most_seconds
    while True:
        await wait(seconds)
        try:
            await read()
            seconds = most_seconds
        except StoreUnavailable as unavailable:
            log.warning("%s could not be followed: %s", what, unavailable)
            seconds = min(RETRY_SECONDS, most_seconds)
