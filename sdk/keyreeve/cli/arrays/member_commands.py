"""`keyreeve member`: the members of arrays."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment

if TYPE_CHECKING:
    from keyreeve.membership_values import Member, MemberEvent

app = typer.Typer(
    help="List, show, quarantine, readmit and remove the members of arrays, and their history.", no_args_is_help=True
)

_COLUMNS = ("name", "array", "state", "primary", "release", "reported_at", "epoch", "disagreements")
_EVENT_COLUMNS = ("at", "event", "array", "actor", "comment")

MemberName = Annotated[str, typer.Argument(help="Peer DNS name of the member (`keyreeve member list`).")]


@app.command("list")
def list_members(
    *,
    array: Annotated[str, typer.Option("--array", help="Only those of this array.")] = "",
    detached: Annotated[bool, typer.Option("--detached", help="Also those that were removed for good.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List members by name."""
    with control_plane(context) as client:
        found = [member_fields(one) for one in client.membership.members.list(array=array, detached=detached)]
    Printer(output, quiet=quiet).rows(_COLUMNS, found, brief="name")


@app.command("show")
def show_member(
    name: MemberName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show a member and its last report."""
    with control_plane(context) as client:
        found = client.membership.members.get(name)
    Printer(output, quiet=quiet).item(member_fields(found), brief="name")


@app.command("history")
def show_history(
    name: MemberName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show every change of a member, the oldest first; also of earlier servers of that name."""
    with control_plane(context) as client:
        found = [event_fields(one) for one in client.membership.members.history(name)]
    Printer(output, quiet=quiet).rows(_EVENT_COLUMNS, found, brief="event")


@app.command("quarantine")
def quarantine_member(
    name: MemberName,
    comment: Annotated[str, typer.Option("--comment", help="Why; kept in the member's history.")],
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Take a dead secondary out of the count: nothing waits for it, and the others refuse it."""
    with control_plane(context) as client:
        found = client.membership.members.quarantine(name, comment)
    Printer(output, quiet=quiet).item(member_fields(found), brief="state")


@app.command("readmit")
def readmit_member(
    name: MemberName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Take a quarantined member back, or a server that stands alone and was cloned."""
    with control_plane(context) as client:
        found = client.membership.members.readmit(name)
    Printer(output, quiet=quiet).item(member_fields(found), brief="state")


@app.command("remove")
def remove_member(
    name: MemberName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Remove a server that stands alone for good; a later server of its name inherits nothing."""
    with control_plane(context) as client:
        found = client.membership.members.remove(name)
    Printer(output, quiet=quiet).item(member_fields(found), brief="state")


def event_fields(event: "MemberEvent") -> dict[str, Any]:
    """Return a change of a member as plain values."""
    return {
        "at": moment(event.at),
        "event": event.event,
        "array": event.array.removeprefix("arrays/"),
        "actor": event.actor,
        "comment": event.comment,
        "member_uid": event.member_uid,
        "revision": event.revision,
    }


def member_fields(member: "Member") -> dict[str, Any]:
    """Return a member as plain values."""
    report = member.report
    status = None if report is None else report.status
    return {
        "name": member.name.removeprefix("members/"),
        "member_uid": member.member_uid,
        "array": member.array.removeprefix("arrays/"),
        "joining": member.joining_array.removeprefix("arrays/"),
        "state": member.state.value,
        "primary": member.primary,
        "address": member.address,
        "external_names": list(member.external_names),
        "release": member.release,
        "created_at": moment(member.created_at),
        "reported_at": None if report is None else moment(report.received_at),
        "clock_difference_ms": None if report is None else report.clock_difference_ms,
        "epoch": None if report is None else report.acknowledged_epoch,
        "certificate": None if status is None else status.certificate.removeprefix("certificates/"),
        "authority": None if status is None else status.authority.removeprefix("authorities/"),
        "sessions": None
        if status is None or status.running_sessions is None
        else f"{status.running_sessions} running, {status.suspended_sessions} suspended",
        "unreachable": []
        if status is None
        else [f"{one.member.removeprefix('members/')}: {one.problem}" for one in status.peers if not one.reachable],
        "disagreements": [] if report is None else list(report.disagreements),
    }
