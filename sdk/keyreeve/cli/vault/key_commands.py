"""`keyreeve vault rotate|destroy|seal|unseal|status`: keys and the seal of the vault."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment, table
from keyreeve.cli.vault.entry_commands import ArrayName

if TYPE_CHECKING:
    from keyreeve.vault_values import Key, SealState

Reason = Annotated[str, typer.Argument(metavar="REASON", help="Why; recorded.")]


def add_to(vault: typer.Typer) -> None:
    """Add the commands to `keyreeve vault`."""
    vault.command("status")(show_status)
    vault.command("rotate")(rotate_key)
    vault.command("destroy-key")(destroy_key)
    vault.command("seal")(seal_vault)
    vault.command("unseal")(unseal_vault)


def show_status(
    array: ArrayName, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Show the keys of an array, the newest first, and whether the vault is sealed."""
    with control_plane(context) as client:
        state = client.credentials.keys.state(array)
    rows = [_row(key) for key in state.keys]
    text = _seal_text(state.seal)
    if state.rotation:
        text += f"re-encrypting: {state.rotation}\n"
    if rows:
        text += table(("number", "stage", "values", "wraps", "created_at", "destroy_at", "name"), rows)
    document = {"sealed": state.seal.sealed, "reason": state.seal.reason, "rotation": state.rotation, "keys": rows}
    Printer(output, quiet=quiet).answer(document, text, brief="sealed" if state.seal.sealed else "open")


def rotate_key(
    array: ArrayName,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show the progress until the end.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Give an array a new key, and re-encrypt all its values while it is used."""
    from keyreeve.operation_values import OperationState

    printer = Printer(output, quiet=quiet)
    with control_plane(context) as client:
        operation = client.credentials.keys.rotate(array)
        for seen in client.credentials.operations.watch(operation.name) if watch else ():
            operation = seen
            printer.line(f"{operation.done} of {operation.total} values re-encrypted")
    document = {"operation": operation.name, "state": operation.state.value, "done": operation.done}
    text = f"{operation.name}: {operation.state.value}"
    if operation.error_reason:
        text += f": {operation.error_reason}: {operation.error_message}"
    printer.answer(document, text, brief=operation.name)
    if operation.state in {OperationState.FAILED, OperationState.CANCELLED}:
        raise typer.Exit(1)


def destroy_key(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Full name of the key (`keyreeve vault status`).")],
    *,
    now: Annotated[
        bool,
        typer.Option("--now", help="Do not wait for backups to expire: they become unreadable. Takes two people."),
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Destroy a key that no value needs any more."""
    with control_plane(context) as client:
        row = _row(client.credentials.keys.destroy(key, now=now))
    text = f"{row['name']}: {row['stage']}"
    if row["destruction_requester"]:
        text += "; another person has to ask for it within an hour"
    if now and row["drained_at"]:
        text += f"\nunreadable with it: backups of the database taken from {row['created_at']} to {row['drained_at']}"
    Printer(output, quiet=quiet).answer(row, text, brief=row["stage"])


def seal_vault(
    reason: Reason, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Seal the vault: nothing opens and nothing is written until it is unsealed."""
    with control_plane(context) as client:
        _show(client.credentials.keys.seal(reason), output, quiet=quiet)


def unseal_vault(
    reason: Reason, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Unseal the vault."""
    with control_plane(context) as client:
        _show(client.credentials.keys.unseal(reason), output, quiet=quiet)


def _show(state: "SealState", output: Format, *, quiet: bool) -> None:
    document = {"sealed": state.sealed, "reason": state.reason, "changer": state.changer}
    Printer(output, quiet=quiet).answer(document, _seal_text(state), brief="sealed" if state.sealed else "open")


def _seal_text(state: "SealState") -> str:
    if state.changed_at is None or not state.changer:
        return f"the vault is {'sealed' if state.sealed else 'open'}\n"
    word = "sealed" if state.sealed else "open"
    return f"the vault is {word} since {moment(state.changed_at)} by {state.changer}: {state.reason}\n"


def _row(key: "Key") -> dict[str, Any]:
    return {
        "name": key.name,
        "number": key.number,
        "stage": key.stage.value,
        "values": key.values,
        "wraps": key.wraps,
        "created_at": moment(key.created_at),
        "drained_at": None if key.drained_at is None else moment(key.drained_at),
        "destroy_at": None if key.destroy_at is None else moment(key.destroy_at),
        "destruction_requester": key.destruction_requester,
    }
