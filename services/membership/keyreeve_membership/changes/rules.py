"""The refusals of structural changes: each names its reason, and is decided before anything changes; no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from keyreeve import errors
from keyreeve_membership.roll.names import release_family
from keyreeve_membership.roll.ports import Array, Member, MemberState, Report
from keyreeve_membership.roll.views import who_disagrees

MAX_CLOCK_DIFFERENCE_MS = 60_000


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """An array with its members and their last reports."""

    array: Array
    members: tuple[Member, ...]
    reports: Mapping[str, Report]
    """By `member_uid`."""


def refuse_join(
    target: ArrayFacts,
    primary: Member,
    own: ArrayFacts,
    secondary: Member,
    *,
    accepted_sha256: bytes,
    by_agent: bool,
    now_ms: int,
    lost_seconds: int,
) -> None:
    """Raise the reason why `secondary` of `own` cannot join the array of `primary`, if there is one.

    A person at the primary is shown the CA of the joining server, and accepts that; its agent knows its own CA anyway.
    """
    if primary.member_uid == secondary.member_uid:
        raise errors.SameServer(f"{primary.name} cannot join itself", metadata={"member": primary.name})
    if not primary.primary:
        raise errors.NotPrimary(
            f"{primary.name} is not the primary of {target.array.array_id}", metadata={"member": primary.name}
        )
    if secondary.state is not MemberState.STANDALONE or len(own.members) > 1:
        raise errors.NotStandalone(
            f"{secondary.name} is {secondary.state} in {own.array.array_id}",
            metadata={"member": secondary.name, "array": own.array.array_id},
        )
    refuse_changing(target.array, own.array)
    if target.array.peer_security is not own.array.peer_security:
        raise errors.PeerSecurityMismatch(
            f"peer security is {_on(target.array)} at {primary.name} and {_on(own.array)} at {secondary.name}",
            metadata={"primary": _on(target.array), "secondary": _on(own.array)},
        )
    if release_family(primary.release) != release_family(secondary.release):
        raise errors.ReleaseMismatch(
            f"{primary.name} runs {primary.release}, {secondary.name} runs {secondary.release}",
            metadata={"primary": primary.release, "secondary": secondary.release},
        )
    accepted = {target.array.authority_sha256} | (set() if by_agent else {own.array.authority_sha256})
    if target.array.peer_security and accepted_sha256 not in accepted:
        raise errors.FingerprintMismatch(
            f"the accepted fingerprint is not that of the CA of {target.array.array_id}",
            metadata={"fingerprint": accepted_sha256.hex()},
        )
    for member, facts in ((secondary, own), (primary, target)):
        refuse_unreachable(member, facts.reports.get(member.member_uid), now_ms, lost_seconds)
        refuse_skewed(member, facts.reports[member.member_uid])
    report = own.reports[secondary.member_uid]
    if (report.running_sessions or 0) + (report.suspended_sessions or 0) > 0:
        raise errors.SessionsRunning(
            f"{secondary.name} has {report.running_sessions} running and {report.suspended_sessions} suspended sessions",
            metadata={"running": str(report.running_sessions), "suspended": str(report.suspended_sessions)},
        )
    refuse_disagreeing(target)
    refuse_disagreeing(own)
    if target.array.peer_security and report.authority_id not in {"", own.array.authority_id}:
        # It has just left an array: that certificate is revoked, and must not count as one of the array's if it returns.
        raise errors.ViewsDisagree(
            f"{secondary.name}: certificate of {report.authority_id} there, of {own.array.authority_id} here",
            metadata={"members": secondary.name},
        )


def refuse_leaving(facts: ArrayFacts, member: Member) -> None:
    """Raise when a member cannot leave its array: the primary, or a change in progress."""
    if member.primary:
        raise errors.PrimaryCannotDetach(
            f"{member.name} is the primary of {facts.array.array_id}", metadata={"member": member.name}
        )
    refuse_changing(facts.array)


def refuse_changing(*arrays: Array) -> None:
    """Raise `ChangeInProgress` when one of the arrays is changing."""
    for array in arrays:
        if array.change:
            raise errors.ChangeInProgress(
                f"{array.array_id} is being changed by operations/{array.change}",
                metadata={"array": array.array_id, "operation": f"operations/{array.change}"},
            )


def refuse_unreachable(member: Member, report: Report | None, now_ms: int, lost_seconds: int) -> None:
    """Raise `Unreachable` when a server has not reported lately."""
    if report is None or now_ms - report.received_at_ms > lost_seconds * 1000:
        when = "never" if report is None else f"last at {_moment(report.received_at_ms)}"
        raise errors.MemberUnreachable(f"{member.name} has {when} reported", metadata={"member": member.name})


def refuse_skewed(member: Member, report: Report) -> None:
    """Raise `ClockSkewed` when a server's clock is more than a minute off."""
    if abs(report.clock_difference_ms) > MAX_CLOCK_DIFFERENCE_MS:
        raise errors.ClockSkewed(
            f"the clock of {member.name} said {_moment(report.time_ms)} at {_moment(report.received_at_ms)}",
            metadata={
                "member": member.name,
                "client_time": _moment(report.time_ms),
                "server_time": _moment(report.received_at_ms),
            },
        )


def refuse_disagreeing(facts: ArrayFacts, *, without: Sequence[str] = ()) -> None:
    """Raise `ViewsDisagree` when members, but those named in `without`, see the array otherwise than the roll."""
    found = who_disagrees(facts.array, facts.members, facts.reports)
    named = {name: differences for name, differences in found.items() if name not in without}
    if named:
        told = "; ".join(f"{name}: {', '.join(differences)}" for name, differences in named.items())
        raise errors.ViewsDisagree(told[:1000], metadata={"members": ",".join(named)})


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _on(array: Array) -> str:
    return "on" if array.peer_security else "off"
