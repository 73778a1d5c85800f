"""`tarantella array list|add|edit|remove_backup_primary`."""

from collections.abc import Sequence

from keyreeve_gateway.grammar.model import Difference, OneOf, Option, Source, Verb
from keyreeve_gateway.grammar.parsed import Parsed
from keyreeve_gateway.grammar.parsing import UsageProblem
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.text import last_part

_LAYOUT = Difference(
    "The list that results is printed, one server per line, the first to be promoted first.", "No manual shows it."
)
_OPTIONS = Difference("The options.", "The manuals list the commands only.")
_SECONDARY = Option("--secondary", "serv", "Peer DNS name of a secondary.", required=True, source=Source.UNDOCUMENTED)
_POSITION = Option(
    "--position",
    "first|last|n",
    "Position in the list: first, last, or a number from 0.",
    source=Source.UNDOCUMENTED,
)


async def list_backups(call: Invocation) -> None:
    """List the backup primaries in order."""
    _show(call, await call.services.membership.members.backup_primaries(await call.array()))


async def add_backup(call: Invocation) -> None:
    """Add a secondary to the backup primaries."""
    position = _position(call.parsed)
    members = call.services.membership.members
    _show(call, await members.add_backup_primary(call.parsed.text("--secondary"), position=position))


async def edit_backup(call: Invocation) -> None:
    """Move a backup primary to another position."""
    position = _position(call.parsed) or _LAST
    _show(call, await call.services.membership.members.move_backup_primary(call.parsed.text("--secondary"), position))


async def remove_backups(call: Invocation) -> None:
    """Remove backup primaries."""
    array, members = await call.array(), call.services.membership.members
    if call.parsed.given("--all"):
        _show(call, await members.remove_backup_primary(array))
        return
    left: Sequence[str] = ()
    for server in call.parsed.many("--secondary"):
        left = await members.remove_backup_primary(array, server)
    _show(call, left)


_LAST = 10_000
"""A position behind every other: an array has fewer members."""


def _position(parsed: Parsed) -> int:
    """The position from 1; 0: the last, also if none is given. Raises `UsageProblem`."""
    text = parsed.text("--position", "last")
    if text in {"first", "last"}:
        return int(text == "first")
    if not (text.isascii() and text.isdigit() and len(text) < 5):
        raise UsageProblem("--position takes first, last or a number from 0")
    return int(text) + 1


def _show(call: Invocation, members: Sequence[str]) -> None:
    for member in members:
        call.console.say(last_part(member))


LIST = Verb(
    "list_backup_primaries",
    "Lists the backup primaries of the array.",
    list_backups,
    rpcs=("MemberService/GetMember", "MemberService/ListBackupPrimaries"),
    differences=(_LAYOUT,),
)
ADD = Verb(
    "add_backup_primary",
    "Adds a secondary server to the backup primaries.",
    add_backup,
    (_SECONDARY, _POSITION),
    _position,
    rpcs=("MemberService/AddBackupPrimary",),
    differences=(_OPTIONS, _LAYOUT),
)
EDIT = Verb(
    "edit_backup_primary",
    "Changes the position of a backup primary.",
    edit_backup,
    (_SECONDARY, _POSITION.require()),
    _position,
    rpcs=("MemberService/MoveBackupPrimary",),
    differences=(_OPTIONS, _LAYOUT),
)
REMOVE = Verb(
    "remove_backup_primary",
    "Removes one or all backup primaries.",
    remove_backups,
    (
        OneOf(
            (
                Option("--secondary", "serv", "Peer DNS names.", many=True, source=Source.UNDOCUMENTED),
                Option("--all", help="All of them.", source=Source.UNDOCUMENTED),
            ),
            required=True,
        ),
    ),
    aliases=("remove_backup_primaries",),
    rpcs=("MemberService/GetMember", "MemberService/RemoveBackupPrimary"),
    differences=(
        _OPTIONS,
        _LAYOUT,
        Difference("`remove_backup_primaries` is the same.", "The manual spells it both ways."),
    ),
)
