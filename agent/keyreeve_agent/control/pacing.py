"""How the members of a large array come one after the other; no I/O. `jitter` is a random number from 0 to 1."""

MEMBERS_PER_SECOND = 100
"""All members of an array hear of a change at once; so many of them ask for it in each second."""
RETRY_SECONDS = 2.0
_MEMBERS_PER_RETRY = 20
_MOST_DOUBLINGS = 6


def spread_seconds(members: int, jitter: float) -> float:
    """How long a member of an array waits before it does what it has heard of."""
    return members / MEMBERS_PER_SECOND * jitter


def retry_seconds(members: int, failures: int, jitter: float) -> float:
    """How long it waits after so many failures in a row: in large arrays longer each time."""
    most = max(RETRY_SECONDS, members / _MEMBERS_PER_RETRY)
    return min(most, RETRY_SECONDS * float(2 ** min(failures - 1, _MOST_DOUBLINGS))) * (0.5 + jitter)
