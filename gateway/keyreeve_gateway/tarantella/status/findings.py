"""What is said about a member: whether it accepts connections, its clock, its view of the array. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from keyreeve_gateway.text import last_part

if TYPE_CHECKING:
    from keyreeve.membership_values import Member


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is worth saying."""

    silence: timedelta
    skew_ms: int


def condition_of(member: "Member", now: datetime, limits: Limits, *, secure: bool) -> str:
    """Whether a member accepts connections, as a sentence.

    Scripts of the legacy product read the word `Accepting`, and what follows the colon before it.
    """
    report = member.report
    if member.state.value == "quarantined":
        return "Quarantined; the other members refuse it."
    if report is None:
        return "Not responding; it has never reported."
    if now - report.received_at > limits.silence:
        return f"Not responding; its last report is of {report.received_at:%Y-%m-%dT%H:%M:%SZ}."
    if report.status.stopped:
        return "Not accepting connections; it is stopped."
    unreachable = member.state.value
    if unreachable in {"joining", "detaching"}:
        return f"Accepting {_kind(secure)} connections; {'joining another' if unreachable == 'joining' else 'leaving the'} array."
    return f"Accepting {_kind(secure)} connections."


def _kind(secure: bool) -> str:
    return "secure" if secure else "standard"


def clock_problem(member: "Member", limits: Limits) -> str:
    """What is wrong with the clock of a member; empty: nothing."""
    if member.report is None or abs(member.report.clock_difference_ms) <= limits.skew_ms:
        return ""
    seconds = member.report.clock_difference_ms / 1000
    return f"{last_part(member.name)}: the clock is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}."


def disagree(members: "Sequence[Member]") -> bool:
    """Whether the last report of any member disagrees with the roll."""
    return any(one.report is not None and one.report.disagreements for one in members)


def view_of(member: "Member") -> list[str]:
    """The array as a member sees it: each server with its place, the primary first."""
    view = None if member.report is None else member.report.status.view
    if view is None:
        return ["unknown"]
    ordered = sorted(view.members, key=lambda one: (one != view.primary, one))
    return [f"{last_part(name)} ({'primary' if name == view.primary else 'secondary'})" for name in ordered]
