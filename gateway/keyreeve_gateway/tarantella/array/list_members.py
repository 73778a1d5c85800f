"""`tarantella array list`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.text import last_part

if TYPE_CHECKING:
    from keyreeve.membership_values import Member


async def list_members(call: Invocation) -> None:
    """List the members of this server's array, the primary first."""
    for member in await members_of(call, await call.array()):
        call.console.say(f"{last_part(member.name)} ({role_of(member)})")


async def members_of(call: Invocation, array: str) -> "list[Member]":
    """The members of an array, the primary first, the others by name."""
    found = [member async for member in call.services.membership.members.list(array=array)]
    return sorted(found, key=lambda one: not one.primary)


def role_of(member: "Member") -> str:
    """Place of a member in its array."""
    return "primary" if member.primary else "secondary"


def primary_of(members: "Sequence[Member]") -> str:
    """Peer DNS name of the primary; empty if there is none."""
    return next((last_part(one.name) for one in members if one.primary), "")


VERB = Verb(
    "list",
    "Lists the members of the array, and identifies the primary.",
    list_members,
    rpcs=("MemberService/GetMember", "MemberService/ListMembers"),
    differences=(Difference("The layout is one server per line, the primary first.", "No manual shows the layout."),),
)
