"""`keyreeve array join|detach|promote|dissolve|clean|status|backups`: structural changes of arrays."""

from typing import Annotated

import typer

from keyreeve.cli.arrays.array_commands import ArrayName, array_fields
from keyreeve.cli.arrays.changing import Wait, accepted_fingerprint, follow_change
from keyreeve.cli.arrays.member_commands import MemberName, member_fields
from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, table

_COLUMNS = ("name", "state", "primary", "reported_at", "clock_difference_ms", "epoch", "unreachable", "disagreements")


def add_to(app: typer.Typer) -> None:
    """Add the commands to `keyreeve array`."""
    for name, command in (
        ("join", join_array),
        ("detach", detach_member),
        ("promote", promote_primary),
        ("status", array_status),
        ("clean", clean_member),
        ("dissolve", dissolve_array),
        ("backups", backup_primaries),
        ("settings", array_settings),
    ):
        app.command(name)(command)


def join_array(
    primary: Annotated[str, typer.Argument(help="Peer DNS name of the array's primary.")],
    secondary: Annotated[str, typer.Argument(help="Peer DNS name of the server that joins.")],
    *,
    accept: Annotated[
        str | None, typer.Option("--accept", help="SHA-256 fingerprint of the array's CA; asked for unless given.")
    ] = None,
    wait: Wait = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Add a server that stands alone to an array."""
    with control_plane(context) as client:
        arrays = client.membership.arrays
        array = arrays.get(client.membership.members.get(primary).array)
        begun = arrays.join(primary, secondary, accepted_sha256=accepted_fingerprint(array, accept))
        follow_change(client, begun, Printer(output, quiet=quiet), wait=wait)


def detach_member(
    member: MemberName,
    *,
    wait: Wait = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Remove a secondary from its array: it becomes an array of one with a CA of its own."""
    with control_plane(context) as client:
        begun = client.membership.arrays.detach(member)
        follow_change(client, begun, Printer(output, quiet=quiet), wait=wait)


def promote_primary(
    member: MemberName,
    *,
    wait: Wait = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Make a secondary the primary of its array, with a new CA and new certificates for all members."""
    with control_plane(context) as client:
        begun = client.membership.arrays.promote(member)
        follow_change(client, begun, Printer(output, quiet=quiet), wait=wait)


def dissolve_array(
    name: ArrayName,
    *,
    wait: Wait = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Detach all secondaries of an array."""
    with control_plane(context) as client:
        begun = client.membership.arrays.dissolve(name)
        follow_change(client, begun, Printer(output, quiet=quiet), wait=wait)


def clean_member(
    member: MemberName,
    *,
    if_disagreeing: Annotated[
        bool, typer.Option("--if-disagreeing", help="Only if a member sees the array otherwise than the roll.")
    ] = False,
    wait: Wait = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Return a secondary to an array of one without its help."""
    with control_plane(context) as client:
        begun = client.membership.arrays.clean(member, only_if_disagreeing=if_disagreeing)
        follow_change(client, begun, Printer(output, quiet=quiet), wait=wait)


def array_status(
    name: ArrayName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show an array, and how each of its members sees it."""
    with control_plane(context) as client:
        array = array_fields(client.membership.arrays.get(name))
        members = [member_fields(one) for one in client.membership.members.list(array=name)]
    agree = all(one["reported_at"] and not one["disagreements"] for one in members)
    rows = [one | {"reported_at": one["reported_at"] or "never reported"} for one in members]
    text = fields(array | {"agree": agree}) + "\n" + table(_COLUMNS, rows)
    Printer(output, quiet=quiet).answer(
        array | {"agree": agree, "member_reports": members}, text, brief="agree" if agree else "disagree"
    )


def backup_primaries(
    name: ArrayName,
    *,
    add: Annotated[str, typer.Option("--add", help="Add this secondary.")] = "",
    move: Annotated[str, typer.Option("--move", help="Move this backup primary to --position.")] = "",
    remove: Annotated[str, typer.Option("--remove", help="Remove this backup primary; `all` removes all.")] = "",
    position: Annotated[int, typer.Option("--position", min=0, help="From 1; 0: the last.")] = 0,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List the backup primaries of an array in order, after a change if one is given."""
    if sum(map(bool, (add, move, remove))) > 1:
        raise typer.BadParameter("one of --add, --move and --remove at a time")
    with control_plane(context) as client:
        members = client.membership.members
        if add:
            found = members.add_backup_primary(add, position=position)
        elif move:
            found = members.move_backup_primary(move, position)
        elif remove:
            found = members.remove_backup_primary(name, "" if remove == "all" else remove)
        else:
            found = members.backup_primaries(name)
    rows = [{"position": i, "name": one.removeprefix("members/")} for i, one in enumerate(found, 1)]
    Printer(output, quiet=quiet).rows(("position", "name"), rows, brief="name")


def array_settings(
    member: MemberName,
    *,
    changed: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE to change; repeatable.", metavar="NAME=VALUE")
    ] = None,
    whole_array: Annotated[
        bool, typer.Option("--array", help="Server-specific settings change for all servers of the array.")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List the settings of a server and of its array, after changes if any are given."""
    pairs = dict(one.partition("=")[::2] for one in changed or ())
    with control_plane(context) as client:
        settings = client.membership.settings
        if pairs:
            settings.update([member], pairs, whole_array=whole_array)
        found = settings.get(member)
    rows = [{"name": one.name, "value": one.value, "scope": one.scope.value} for one in found]
    Printer(output, quiet=quiet).rows(("name", "value", "scope"), rows, brief="value")
