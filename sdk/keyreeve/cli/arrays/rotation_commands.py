"""`keyreeve rotation`: changes of the CA of an array."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.arrays.array_commands import ArrayName
from keyreeve.cli.calling import control_plane, read_lifetime
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from keyreeve.membership_values import Rotation

app = typer.Typer(help="Start, watch and roll back changes of an array's CA.", no_args_is_help=True)

_PHASES = ("prepared", "distributed", "activated", "reissued", "distrusted")
_COLUMNS = ("name", "array", "kind", "phase", "new_primary", "created_at", "ended_at")

RotationName = Annotated[str, typer.Argument(help="Name of the rotation (`keyreeve rotation list`).")]


@app.command("start")
def start_rotation(
    array: ArrayName,
    *,
    kind: Annotated[
        str, typer.Option("--kind", help="scheduled, algorithm_change or emergency; promotions: `array promote`.")
    ] = "scheduled",
    key_type: Annotated[str | None, typer.Option("--key-type", help="p256, p384 or rsa3072.")] = None,
    phase_time: Annotated[
        str | None, typer.Option("--phase-time", help="Time of each phase of an emergency, such as 30m.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Watch it until it has ended.")] = True,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Start giving an array a new CA."""
    from keyreeve.membership_values import RotationKind
    from keyreeve.values import KeyType

    if kind not in set(RotationKind) - {RotationKind.PROMOTE}:
        raise typer.BadParameter(f"{kind!r} is no kind of rotation", param_hint="--kind")
    if key_type is not None and key_type not in {"p256", "p384", "rsa3072"}:
        raise typer.BadParameter(f"{key_type!r} is not p256, p384 or rsa3072", param_hint="--key-type")
    with control_plane(context) as client:
        rotations = client.membership.rotations
        found = rotations.start(
            array,
            RotationKind(kind),
            key_type=None if key_type is None else KeyType(key_type),
            phase_time=read_lifetime(phase_time),
        )
        printer = Printer(output, quiet=quiet)
        if watch:
            printer.line(f"rotation {found.name.removeprefix('rotations/')}")
            found = _watch(rotations.watch(found.name), printer)
    printer.item(rotation_fields(found), brief="name")


@app.command("watch")
def watch_rotation(
    name: RotationName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show the phases of a rotation, and whom it waits for and why, until it has ended."""
    with control_plane(context) as client:
        found = _watch(client.membership.rotations.watch(name), Printer(output, quiet=quiet))
    Printer(output, quiet=quiet).item(rotation_fields(found), brief="phase")


@app.command("list")
def list_rotations(
    *,
    array: Annotated[str, typer.Option("--array", help="Only those of this array.")] = "",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List rotations, newest first."""
    with control_plane(context) as client:
        found = [rotation_fields(one) for one in client.membership.rotations.list(array=array)]
    Printer(output, quiet=quiet).rows(_COLUMNS, found, brief="name")


@app.command("show")
def show_rotation(
    name: RotationName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show how far a rotation is, and whom it waits for and why."""
    with control_plane(context) as client:
        found = client.membership.rotations.get(name)
    printer, shown = Printer(output, quiet=quiet), rotation_fields(found)
    members = shown.pop("members")
    text = fields(shown) + "".join(f"{line}\n" for line in drawing(found))
    printer.answer(shown | {"members": members}, text, brief=shown["phase"])


@app.command("rollback")
def roll_back_rotation(
    name: RotationName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Go back to the CA before the rotation; possible until that is distrusted."""
    with control_plane(context) as client:
        found = client.membership.rotations.roll_back(name)
    Printer(output, quiet=quiet).item(rotation_fields(found), brief="phase")


@app.command("waive")
def waive_check(
    name: RotationName,
    *,
    member: Annotated[
        str,
        typer.Option(
            "--member",
            help="Take its acknowledgement without a check of its peer port; after a rollback, end without it.",
        ),
    ] = "",
    old_certificates: Annotated[
        bool, typer.Option("--old-certificates", help="Go on although certificates of the old CA have not expired.")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Let a rotation go on without one of the things that it waits for."""
    if bool(member) == old_certificates:
        raise typer.BadParameter("one of --member and --old-certificates is required")
    with control_plane(context) as client:
        found = client.membership.rotations.waive(name, member=member)
    Printer(output, quiet=quiet).item(rotation_fields(found), brief="phase")


def rotation_fields(rotation: "Rotation") -> dict[str, Any]:
    """Return a rotation as plain values."""
    return {
        "name": rotation.name.removeprefix("rotations/"),
        "array": rotation.array.removeprefix("arrays/"),
        "kind": rotation.kind.value,
        "phase": rotation.phase.value,
        "old_authority": rotation.old_authority.removeprefix("authorities/"),
        "new_authority": rotation.new_authority.removeprefix("authorities/"),
        "new_primary": rotation.new_primary.removeprefix("members/"),
        "epoch": rotation.epoch,
        "final_epoch": rotation.final_epoch,
        "operation": rotation.operation.removeprefix("operations/"),
        "deadline": None if rotation.deadline is None else until(rotation.deadline, datetime.now(UTC)),
        "old_certificates": rotation.old_certificates,
        "waiting": rotation.waiting,
        "created_at": moment(rotation.created_at),
        "ended_at": None if rotation.ended_at is None else moment(rotation.ended_at),
        "members": [
            {
                "member": one.member.removeprefix("members/"),
                "evidence": one.evidence.value,
                "reissued": one.reissued,
                "waiting": one.waiting,
            }
            for one in rotation.members
        ],
    }


def _watch(states: "Iterable[Rotation]", printer: Printer) -> "Rotation":
    last = None
    for last in states:
        for line in drawing(last):
            printer.line(line)
    assert last is not None, "a watched rotation is sent once at least"
    return last


def drawing(rotation: "Rotation") -> list[str]:
    """Return a rotation as lines: the phases, and whom it waits for, why and since when."""
    if rotation.phase.value in _PHASES:
        reached = _PHASES.index(rotation.phase.value)
        marks = ["●" if i <= reached else "○" for i in range(len(_PHASES))]
        line = " → ".join(f"{mark} {phase}" for mark, phase in zip(marks, _PHASES, strict=True))
    else:
        line = "↩ rolled back"
    counted = [one for one in rotation.members if not one.quarantined]
    waiting = [one for one in counted if one.waiting]
    left = f", {until(rotation.deadline, datetime.now(UTC))}" if rotation.deadline is not None else ""
    lines = [f"{line}  ({len(counted) - len(waiting)} of {len(counted)} ready{left})"]
    for one in waiting:
        since = "" if one.waiting_since is None else f" (since {moment(one.waiting_since)})"
        lines.append(f"    {one.member.removeprefix('members/')} has to {one.waiting}{since}")
    if rotation.waiting:
        lines.append(f"    waits for: {rotation.waiting}")
    if quarantined := [one.member.removeprefix("members/") for one in rotation.members if one.quarantined]:
        lines.append(f"    quarantined: {', '.join(quarantined)}")
    return lines
