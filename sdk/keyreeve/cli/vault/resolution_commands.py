"""`keyreeve vault resolve|explain`: which credential a launch uses, and why."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, table
from keyreeve.cli.vault.entry_commands import ArrayName

if TYPE_CHECKING:
    from keyreeve.launch_values import Resolved

User = Annotated[str, typer.Option("--owner", help="The user: TFN name, or `anonymous`.", metavar="OWNER")]
Application = Annotated[str, typer.Option("--application", help="TFN name of the application.", metavar="NAME")]
AppServer = Annotated[
    str, typer.Option("--application-server", help="TFN name of the application server.", metavar="NAME")
]
Profile = Annotated[
    str, typer.Option("--profile", help="TFN name of the user profile. Default: the owner's.", metavar="NAME")
]
Member = Annotated[
    str, typer.Option("--server", help="Server whose launch settings apply. Default: the array's.", metavar="HOST")
]
Shift = Annotated[bool, typer.Option("--shift", help="The user holds Shift.")]
ThirdParty = Annotated[bool, typer.Option("--third-party", help="The user was authenticated by a third party.")]


def add_to(vault: typer.Typer) -> None:
    """Add `resolve` and `explain` to `keyreeve vault`."""
    vault.command("resolve")(resolve_credential)
    vault.command("explain")(explain_resolution)


def resolve_credential(
    array: ArrayName,
    owner: User,
    application: Application,
    application_server: AppServer,
    *,
    profile: Profile = "",
    server: Member = "",
    shift: Shift = False,
    third_party: ThirdParty = False,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Print the secret too; without it, it is not shown.")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Decide what a launch logs in with; the read of the secret is audited, also when it is not shown."""
    from keyreeve.launch_values import Credential, Launch

    launch = Launch(array, owner, application, application_server, profile, server, shift, third_party)
    with control_plane(context) as client:
        result = client.credentials.resolution.resolve(launch)
    row = _row(result)
    if isinstance(result, Credential):
        row["secret"] = result.secret.reveal().decode(errors="backslashreplace") if reveal else str(result.secret)
    Printer(output, quiet=quiet).answer(row, fields(row), brief=str(row["result"]))


def explain_resolution(
    array: ArrayName,
    owner: User,
    application: Application,
    application_server: AppServer,
    *,
    profile: Profile = "",
    server: Member = "",
    shift: Shift = False,
    third_party: ThirdParty = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Explain the decision about a launch: rules tried, what decided, and what would change it."""
    from keyreeve.launch_values import Launch

    launch = Launch(array, owner, application, application_server, profile, server, shift, third_party)
    with control_plane(context) as client:
        explained = client.credentials.resolution.explain(launch)
    row = _row(explained.result)
    steps = [
        {
            "rule": step.rule,
            "object": step.object_name,
            "attribute": step.attribute,
            "value": step.value,
            "finding": step.finding.value,
        }
        for step in explained.steps
    ]
    changes = [{"change": change, "result": result} for change, result in explained.changes]
    text = fields(row) + "\n" + table(("rule", "object", "attribute", "value", "finding"), steps)
    if changes:
        text += "\n" + table(("change", "result"), changes)
    document = {**row, "steps": steps, "changes": changes}
    Printer(output, quiet=quiet).answer(document, text, brief=str(row["result"]))


def _row(result: "Resolved") -> dict[str, Any]:
    from keyreeve.launch_values import AuthenticationDialog, Credential

    if isinstance(result, Credential):
        return {
            "result": "credential",
            "kind": result.kind.value,
            "user_name": result.user_name,
            "domain": result.domain,
            "resource": result.resource,
            "entry": result.entry,
        }
    if isinstance(result, AuthenticationDialog):
        row = {"result": "dialog", "problem": result.problem, "save_password": _box(result.save_password)}
        if result.has_domain:
            row["nt_domain"] = result.domain
        if result.always_smart_card is not None:
            row["always_smart_card"] = _box(result.always_smart_card)
        return row
    return {"result": "launch failure", "reason": result.value}


def _box(box: Any) -> str:  # noqa: ANN401 - a check box
    return ("checked" if box.checked else "cleared") + (", locked" if box.locked else "")
