"""The layouts of `tarantella status`. No I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from keyreeve_gateway.tarantella.array.list_members import role_of
from keyreeve_gateway.tarantella.status.findings import Limits, clock_problem, condition_of, disagree, view_of
from keyreeve_gateway.tarantella.xml_reply import xml_reply
from keyreeve_gateway.text import last_part

if TYPE_CHECKING:
    from keyreeve.membership_values import Array, Member


@dataclass(frozen=True, slots=True)
class Report:
    """What is shown."""

    array: "Array"
    everyone: "Sequence[Member]"
    """All members of the array."""
    members: "Sequence[Member]"
    """Those that were asked for."""
    now: datetime
    limits: Limits

    def of(self, members: "Sequence[Member]") -> "Report":
        """The same for some of the members."""
        return replace(self, members=members)

    def condition(self, member: "Member") -> str:
        """Whether a member accepts connections."""
        return condition_of(member, self.now, self.limits, secure=self.array.peer_security)


def summary(report: Report) -> Iterator[str]:
    """The array, its members, their sessions, and what is wrong."""
    yield f"Array members ({len(report.members)}):"
    yield ""
    for member in report.members:
        yield f"  - {last_part(member.name)} ({role_of(member)}): {report.condition(member)}"
    yield from _sessions(report.members)
    yield from _problems(report)


def servers(report: Report) -> Iterator[str]:
    """Details of each member."""
    for number, member in enumerate(report.members):
        if number:
            yield ""
        yield f"Server {last_part(member.name)}:"
        for name, value in details(report, member).items():
            yield f"  {name.replace('-', ' ').capitalize()}: {value}"
    yield from _problems(report)


def summary_xml(report: Report) -> Iterator[str]:
    """The array with its sessions, and one object per member."""
    told = {"members": str(len(report.members))} | {
        name: str(sum(counts)) if counts else "unknown" for name, counts in _session_counts(report.members).items()
    }
    members = ((one, {"role": role_of(one), "state": report.condition(one)}) for one in report.members)
    return _reply(report, told, members)


def servers_xml(report: Report) -> Iterator[str]:
    """The array, and details of each member."""
    return _reply(report, {}, ((one, details(report, one)) for one in report.members))


def _reply(
    report: Report, told: Mapping[str, str], members: "Iterable[tuple[Member, Mapping[str, str]]]"
) -> Iterator[str]:
    """A reply of the array, then of members, with what is wrong."""
    array: dict[str, str] = {"type": "array", **told}
    if report.array.change:
        array["change"] = last_part(report.array.change)
    array["views"] = "disagree" if disagree(report.everyone) else "agree"

    def objects() -> Iterator[tuple[str, Mapping[str, str]]]:
        yield last_part(report.array.name), array
        for member, attributes in members:
            yield last_part(member.name), {**attributes, **_wrong(report, member)}

    return xml_reply(objects())


def _wrong(report: Report, member: "Member") -> dict[str, str]:
    """What is wrong with a member, and how it sees the array if not all see the same."""
    problem = clock_problem(member, report.limits)
    found = {"clock-problem": problem} if problem else {}
    if disagree(report.everyone):
        found["view"] = ", ".join(view_of(member))
    return found


def ping(report: Report) -> Iterator[str]:
    """One line per member."""
    for member in report.members:
        yield f"  - {last_part(member.name)} ({role_of(member)}): {report.condition(member)}"
        for problem in _reached_by_others(report.everyone, member):
            yield f"      {problem}"
    yield from _problems(report)


def ping_xml(report: Report) -> Iterator[str]:
    """The array, and one object per member."""

    def told(member: "Member") -> dict[str, str]:
        problems = list(_reached_by_others(report.everyone, member))
        return {"state": report.condition(member)} | ({"problems": "; ".join(problems)} if problems else {})

    return _reply(report, {}, ((one, told(one)) for one in report.members))


def details(report: Report, member: "Member") -> dict[str, str]:
    """What is known of a member, by name."""
    told = {
        "role": role_of(member),
        "state": report.condition(member),
        "address": member.address,
        "external-names": ", ".join(member.external_names) or "none",
        "release": member.release,
    }
    if member.report is None:
        return told
    status = member.report.status
    told["clock-difference"] = f"{member.report.clock_difference_ms / 1000:.1f} s"
    told["certificate-expires"] = (
        f"{status.certificate_not_after:%Y-%m-%dT%H:%M:%SZ}" if status.certificate_not_after else "none"
    )
    known = status.running_sessions is not None
    told["running-sessions"] = str(status.running_sessions) if known else "unknown"
    told["suspended-sessions"] = str(status.suspended_sessions) if known else "unknown"
    return told


def _session_counts(members: "Sequence[Member]") -> dict[str, list[int]]:
    statuses = [one.report.status for one in members if one.report is not None]
    return {
        "running-sessions": [one.running_sessions for one in statuses if one.running_sessions is not None],
        "suspended-sessions": [one.suspended_sessions for one in statuses if one.suspended_sessions is not None],
    }


def _sessions(members: "Sequence[Member]") -> Iterator[str]:
    known = [one for one in members if one.report is not None and one.report.status.running_sessions is not None]
    yield ""
    if not known:
        yield "Sessions: unknown; no server reports them."
        return
    statuses = [(last_part(one.name), one.report.status) for one in known if one.report is not None]
    running = sum(status.running_sessions or 0 for _, status in statuses)
    suspended = sum(status.suspended_sessions or 0 for _, status in statuses)
    yield f"Sessions: {running} running, {suspended} suspended."
    for name, status in statuses:
        yield f"  - {name}: {status.running_sessions} running, {status.suspended_sessions} suspended."


def _problems(report: Report) -> Iterator[str]:
    if report.array.change:
        yield ""
        yield f"The array is being changed ({last_part(report.array.change)})."
    clocks = [problem for member in report.members if (problem := clock_problem(member, report.limits))]
    if clocks:
        yield ""
        yield "The clocks of these servers are not synchronized:"
        yield from (f"  - {problem}" for problem in clocks)
    if disagree(report.everyone):
        yield ""
        yield from _views(report.everyone)


def _views(members: "Sequence[Member]") -> Iterator[str]:
    """The array as every server sees it."""
    yield "The servers do not agree on the array:"
    for member in members:
        yield f"  {last_part(member.name)} sees:"
        yield from (f"    - {line}" for line in view_of(member))


def _reached_by_others(members: "Sequence[Member]", member: "Member") -> Iterator[str]:
    for other in members:
        for reach in other.report.status.peers if other.report is not None else ():
            if reach.member == member.name and not reach.reachable:
                yield f"{last_part(other.name)} cannot reach it: {reach.problem}"
