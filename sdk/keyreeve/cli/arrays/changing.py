"""What the commands that change arrays share: waiting for the operation, and accepting a fingerprint."""

from typing import TYPE_CHECKING, Annotated

import typer

from keyreeve.cli.administration.operation_commands import operation_fields, progress
from keyreeve.cli.arrays.showing import fingerprint
from keyreeve.cli.printing import Printer
from keyreeve.errors import FingerprintMismatch, from_reason

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.membership_values import Array
    from keyreeve.operation_values import Operation

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the change has been carried out.")]


def follow_change(client: "Client", begun: "Operation", printer: Printer, *, wait: bool) -> None:
    """Print a change's progress until it has ended, and its outcome.

    Raises the error with which it has failed.
    """
    last = begun
    if wait:
        for last in client.membership.operations.watch(begun.name):
            printer.line(f"{progress(last)} ({last.phase})")
    printer.answer(operation_fields(last), "", brief=last.name.removeprefix("operations/"))
    if last.error_reason:
        raise from_reason(last.error_reason, last.error_message)


def accepted_fingerprint(array: "Array", given: str | None) -> bytes:
    """Return the fingerprint of an array's CA that a person has accepted: on the command line, or at a prompt.

    Raises `FingerprintMismatch` for another one; nothing is accepted without a yes.
    """
    if not array.peer_security:
        return b""
    if given is not None:
        plain = given.replace(":", "").lower()
        if plain != array.authority_sha256.hex():
            raise FingerprintMismatch(
                f"the CA of {array.name} has the fingerprint {fingerprint(array.authority_sha256)}",
                metadata={"fingerprint": plain[:64]},
            )
        return array.authority_sha256
    typer.echo(
        f"The CA of {array.name}, primary {array.primary.removeprefix('members/')}, has this fingerprint:", err=True
    )
    typer.echo(f"  SHA-256 {fingerprint(array.authority_sha256)}", err=True)
    typer.confirm("Trust it?", abort=True, err=True)
    return array.authority_sha256
