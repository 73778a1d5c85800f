"""Units of a rate: the limits of the machine that a measured rate is compared with."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """A limit, and where a report holds it."""

    text: str
    rate_key: str
    """Key of its value in a report, in operations per second."""
    ratio_key: str
    """Key of the measured rate divided by it, below `ratios`."""

    @property
    def suffix(self) -> str:
        """How a threshold names it, such as `unary>=0.8combined-bound`."""
        return self.text.replace(" ", "-")


SIGNING_LIMIT = Unit("signing limit", "signing_limit_per_second", "to_signing_limit")
ECHO_RATE = Unit("echo rate", "echo_rate_per_second", "to_echo_rate")
COMBINED_BOUND = Unit("combined bound", "combined_bound_per_second", "to_combined_bound")
UNITS = (SIGNING_LIMIT, ECHO_RATE, COMBINED_BOUND)
