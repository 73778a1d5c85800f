"""`tarantella status`."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Difference, OneOf, Option, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.tarantella.array.list_members import members_of, role_of
from keyreeve_gateway.tarantella.status import layouts
from keyreeve_gateway.tarantella.status.findings import Limits
from keyreeve_gateway.tarantella.xml_reply import xml_reply
from keyreeve_gateway.text import last_part

if TYPE_CHECKING:
    from keyreeve.membership_values import Member


async def show_status(call: Invocation) -> None:
    """Show the state of the array, of each server, or of one."""
    parsed, name = call.parsed, ""
    if not call.settings.array:
        name = (await call.member()).array
    array = await call.services.membership.arrays.get(name or call.settings.array)
    members = await members_of(call, array.name)
    limits = Limits(timedelta(seconds=call.settings.silent_seconds), call.settings.skew_seconds * 1000)
    report = layouts.Report(array, members, members, call.now(), limits)
    if parsed.given("--verbose"):
        # XML has to be well-formed: there, this is no part of the output.
        tell = call.console.warn if parsed.text("--format") == "xml" else call.console.say
        for member in members:
            tell(f"Contacting {last_part(member.name)}.")
    for line in _lines(call, report):
        call.console.say(line)


def _lines(call: Invocation, report: layouts.Report) -> Iterator[str]:
    parsed = call.parsed
    xml = parsed.text("--format") == "xml"
    if parsed.given("--ping"):
        if parsed.text("--ping"):
            report = report.of(_chosen(report.members, parsed.text("--ping")))
        return layouts.ping_xml(report) if xml else layouts.ping(report)
    if parsed.given("--server"):
        report = report.of(_chosen(report.members, parsed.text("--server")))
        return layouts.servers_xml(report) if xml else layouts.servers(report)
    if parsed.given("--byserver"):
        return layouts.servers_xml(report) if xml else layouts.servers(report)
    if parsed.given("--originalstate"):
        return _original_xml(report.members) if xml else _original(report.members)
    return layouts.summary_xml(report) if xml else layouts.summary(report)


def _chosen(members: "Sequence[Member]", name: str) -> "Sequence[Member]":
    found = [one for one in members if last_part(one.name).casefold() == name.casefold()]
    if not found:
        raise CommandFailed(f"{name} is not a member of the array")
    return found


def _original(members: "Sequence[Member]") -> Iterator[str]:
    yield "The array has not been repaired: its members are the original ones."
    for member in members:
        yield f"  - {last_part(member.name)} ({role_of(member)})"


def _original_xml(members: "Sequence[Member]") -> Iterator[str]:
    return xml_reply((last_part(one.name), {"role": role_of(one)}) for one in members)


VERB = Verb(
    "status",
    "Shows the state of the array.",
    show_status,
    (
        OneOf(
            (
                Option("--summary", help="The array, its servers and their sessions; the default."),
                Option("--byserver", help="Details of each server."),
                Option("--server", "serv", "Details of one server."),
                Option("--ping", "serv", "A quick check of every server, or of one.", value_optional=True),
                Option("--originalstate", help="The members of the array before it was repaired."),
            )
        ),
        Option("--format", "text", "Form of the output.", choices=("text", "xml")),
        Option("--verbose", help="Says first which servers are asked."),
    ),
    rpcs=("MemberService/GetMember", "ArrayService/GetArray", "MemberService/ListMembers"),
    differences=(
        Difference(
            "It shows the last reports of the servers' agents to the membership service, and does not ask the servers.",
            "The membership service compares every report with the roll; a server that is silent is said to be.",
        ),
        Difference(
            "The layout: only the position of `Accepting` and of the text after the colon is known from scripts.",
            "No manual shows the layout.",
        ),
        Difference(
            "The XML begins with an object of the array, whose `type` is `array`: `change` names a change that has not ended, "
            "and `views` says whether the servers agree. A server whose clock is wrong has a `clock-problem`, and with "
            "`--verbose` the servers are named on standard error.",
            "No manual shows the XML.",
        ),
        Difference(
            "--verbose names the servers and shows no health check.",
            "No manual shows it; `--ping` is the health check.",
        ),
        Difference("The sessions of users and those of applications are one number.", "The servers report their sum."),
        Difference(
            "--originalstate shows the present members.",
            "Arrays are not repaired automatically: a failed primary is replaced by make_primary.",
        ),
    ),
)
