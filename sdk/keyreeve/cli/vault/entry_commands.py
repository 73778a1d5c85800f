"""`keyreeve vault put|get|list|edit|delete`: entries of the vault."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment
from keyreeve.cli.vault.places import note_unknown
from keyreeve.cli.vault.secrets import SecretFile, read_secret, write_secret
from keyreeve.errors import EntryNotFound, FileUnusable

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.vault_values import Entry

app = typer.Typer(help="Keep, read and re-key the passwords that servers log in with.", no_args_is_help=True)

ArrayName = Annotated[
    str, typer.Option("--array", envvar="KEYREEVE_ARRAY", help="The array of servers.", metavar="NAME")
]
Owner = Annotated[str, typer.Option("--owner", help="TFN name of a person, `anonymous` or `ldap`.", metavar="OWNER")]
Resource = Annotated[
    str,
    typer.Option(
        "--resource",
        help="TFN name of an application server or a Windows domain; none: the owner's login password.",
        metavar="RESOURCE",
    ),
]
_COLUMNS = ("owner", "resource", "user_name", "kind", "version", "updated_at")


@app.command("put")
def put_entry(
    array: ArrayName,
    owner: Owner,
    user: Annotated[str, typer.Option("--user", help="User name, exactly as it is typed in the dialog.")],
    *,
    resource: Resource = "",
    secret_file: SecretFile = None,
    smart_card: Annotated[
        bool, typer.Option("--smart-card", help="Always use a smart card: the entry has no password.")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Create an entry; its password is read from a prompt, a file or standard input."""
    from keyreeve.vault_values import EntryKind

    secret = None if smart_card else read_secret(secret_file)
    kind = EntryKind.SMART_CARD if smart_card else EntryKind.PASSWORD
    with control_plane(context) as client:
        made = client.credentials.entries.create(array, owner, resource, user, secret, kind=kind)
        note_unknown(client, array)
    _show(made, output, quiet=quiet)


@app.command("get")
def get_entry(
    array: ArrayName,
    owner: Owner,
    purpose: Annotated[str, typer.Option("--purpose", help="What it is read for; recorded.")] = "support",
    *,
    resource: Resource = "",
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the secret although this is a terminal.")] = False,
    context: ContextFile = None,
) -> None:
    """Write the secret of an entry to standard output; the read is audited first."""
    if sys.stdout.isatty() and not reveal:
        raise typer.BadParameter("standard output is a terminal: redirect it, or add --reveal")
    with control_plane(context) as client:
        entry = _find(client, array, owner, resource)
        write_secret(client.credentials.entries.reveal(entry.name, purpose=purpose).secret)


@app.command("list")
def list_entries(
    array: ArrayName,
    *,
    owner: Annotated[str, typer.Option("--owner", help="Only of this owner; * stands for any characters.")] = "",
    resource: Annotated[
        str, typer.Option("--resource", help="Only for this resource; * stands for any characters.")
    ] = "",
    user: Annotated[str, typer.Option("--user", help="Only of this user name; * stands for any characters.")] = "",
    login: Annotated[bool, typer.Option("--login", help="Only login passwords, which have no resource.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List entries in order of owner and resource; secrets are not included."""
    with control_plane(context) as client:
        found = client.credentials.entries.list(array, owner=owner, resource=resource, user_name=user, login_only=login)
        rows = [_row(entry) for entry in found]
    Printer(output, quiet=quiet).rows(_COLUMNS, rows, brief="name")


@app.command("edit")
def edit_entry(
    array: ArrayName,
    owner: Owner,
    *,
    resource: Resource = "",
    user: Annotated[str | None, typer.Option("--user", help="The new user name.")] = None,
    new_secret: Annotated[bool, typer.Option("--new-secret", help="Read a new password.")] = False,
    secret_file: SecretFile = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Change the user name or the password of an entry."""
    secret = read_secret(secret_file) if new_secret or secret_file is not None else None
    if user is None and secret is None:
        raise typer.BadParameter("nothing to change: give --user, --new-secret or --secret-file")
    with control_plane(context) as client:
        entry = _find(client, array, owner, resource)
        changed = client.credentials.entries.update(entry.name, user_name=user, secret=secret, version=entry.version)
    _show(changed, output, quiet=quiet)


@app.command("delete")
def delete_entries(
    array: ArrayName,
    *,
    owner: Annotated[str, typer.Option("--owner", help="All of this owner.")] = "",
    resource: Annotated[str, typer.Option("--resource", help="All for this resource.")] = "",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Delete the entries of an owner, of a resource, or of both."""
    if not owner and not resource:
        raise typer.BadParameter("give --owner, --resource or both; all entries are never deleted at once")
    with control_plane(context) as client:
        names = client.credentials.entries.delete_all(array, owner=owner, resource=resource).names
    Printer(output, quiet=quiet).answer(
        {"deleted": list(names)}, f"{len(names)} deleted", brief="".join(f"{name}\n" for name in names)
    )


@app.command("import")
def import_entries(
    array: ArrayName,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="File with one entry in each line; - is standard input.")
    ],
    *,
    batch: Annotated[
        bool, typer.Option("--batch", help="Lines are options of the legacy `passcache new`, not JSON objects.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make the next version of entries that exist.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Create all entries of a file, at most 5,000, or none of them.

    A JSON line has `owner`, `resource`, `user_name`, `secret`, and optionally `kind` and `domain`.
    """
    from keyreeve.vault_batches import parse_batch, parse_json_lines

    try:
        text = (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode()
    except OSError as problem:
        raise FileUnusable(f"cannot read {file}: {problem.strerror}") from problem
    except UnicodeDecodeError:
        raise FileUnusable(f"{file} is not UTF-8") from None
    rows = parse_batch(text) if batch else parse_json_lines(text)
    with control_plane(context) as client:
        done = client.credentials.entries.import_rows(array, rows, replace=replace, dry_run=dry_run)
        if not dry_run:
            note_unknown(client, array)
    document = {"created": done.created, "replaced": done.replaced, "dry_run": done.dry_run}
    verb = "would be " if done.dry_run else ""
    Printer(output, quiet=quiet).answer(
        document, f"{done.created} {verb}created, {done.replaced} {verb}replaced", brief=str(done.created)
    )


def _find(client: "Client", array: str, owner: str, resource: str) -> "Entry":
    """The one entry of an owner and a resource. Raises `EntryNotFound`."""
    found = client.credentials.entries.list(array, owner=owner, resource=resource, login_only=not resource)
    for entry in found:
        return entry
    raise EntryNotFound(f"{array} has no entry of {owner} for {resource or 'the login'}")


def _show(entry: "Entry", output: Format, *, quiet: bool) -> None:
    row = _row(entry)
    Printer(output, quiet=quiet).answer(row, fields(row), brief=entry.name)


def _row(entry: "Entry") -> dict[str, Any]:
    return {
        "name": entry.name,
        "owner": entry.owner,
        "resource": entry.resource,
        "user_name": entry.user_name,
        "kind": entry.kind.value,
        "source": entry.source.value,
        "version": entry.version,
        "created_at": moment(entry.created_at),
        "updated_at": moment(entry.updated_at),
    }
