"""`keyreeve vault file ...`: keys, requests, certificates and bundles of a server."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment
from keyreeve.cli.vault.entry_commands import ArrayName
from keyreeve.cli.vault.places import note_unknown
from keyreeve.cli.vault.secrets import SecretFile, read_secret, write_secret
from keyreeve.errors import FileUnusable

if TYPE_CHECKING:
    from keyreeve.file_values import FileSpace, KeyFile, MadeFiles, RequestAttributes

app = typer.Typer(help="Keys, requests, certificates and bundles of a server.", no_args_is_help=True)

ServerName = Annotated[
    str, typer.Option("--server", envvar="KEYREEVE_SERVER", help="Peer DNS name of the server.", metavar="HOST")
]
FileName = Annotated[str, typer.Argument(metavar="FILE", help="Name of the file on the server.")]
Basename = Annotated[str, typer.Argument(metavar="BASENAME", help="Letters, digits, - and _, without an extension.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace existing files; they are kept under other names.")]
Force = Annotated[bool, typer.Option("--force", help="Also where a service uses the file.")]
KeyType = Annotated[str, typer.Option("--key-type", help="rsa2048, rsa3072, rsa4096, p256 or p384.")]
Days = Annotated[int, typer.Option("--days", help="Days of validity. Default: the service's.")]
Attributes = Annotated[
    list[str],
    typer.Argument(
        metavar="CN:VALUE [OU:VALUE] ...",
        help="CN, OU, O, L, ST, C, emailAddress, and subjectAltName with values separated by commas.",
    ),
]
_COLUMNS = ("file", "size", "private_key", "used_by", "version", "updated_at")
_ATTRIBUTES = {
    "CN": "common_name",
    "OU": "organizational_unit",
    "O": "organization",
    "L": "locality",
    "ST": "state",
    "C": "country",
    "emailAddress": "email_address",
    "subjectAltName": "names",
}


@app.command("put")
def put_file(
    source: Annotated[Path, typer.Argument(metavar="PATH", help="Local file, or - for standard input.")],
    array: ArrayName,
    server: ServerName,
    *,
    name: Annotated[str, typer.Option("--name", help="Name on the server. Default: that of the local file.")] = "",
    replace: Replace = False,
    force: Force = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Store a file on a server."""
    from keyreeve.plaintext import Plaintext

    if str(source) == "-" and not name:
        raise typer.BadParameter("required for standard input", param_hint="--name")
    data = Plaintext(_read(source))
    with control_plane(context) as client:
        stored = client.credentials.files.put(
            file_space(array, server), name or source.name, data, replace=replace, force=force
        )
        note_unknown(client, array, server)
    _show(stored, output, quiet=quiet)


@app.command("get")
def get_file(
    name: FileName,
    array: ArrayName,
    server: ServerName,
    *,
    purpose: Annotated[str, typer.Option("--purpose", help="What a private key is read for; recorded.")] = "support",
    reveal: Annotated[bool, typer.Option("--reveal", help="Print a private key although this is a terminal.")] = False,
    context: ContextFile = None,
) -> None:
    """Write a file to standard output; the read of a private key is audited first."""
    with control_plane(context) as client:
        files, space = client.credentials.files, file_space(array, server)
        if sys.stdout.isatty() and not reveal and files.inspect(space, name).file.holds_private_key:
            raise typer.BadParameter("standard output is a terminal: redirect it, or add --reveal")
        write_secret(files.get(space, name, purpose=purpose).contents)


@app.command("list")
def list_files(
    array: ArrayName,
    server: ServerName,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List the files of a server."""
    with control_plane(context) as client:
        rows = [_row(file) for file in client.credentials.files.list(file_space(array, server))]
    Printer(output, quiet=quiet).rows(_COLUMNS, rows, brief="file")


@app.command("rename")
def rename_file(
    name: FileName,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="The new name.")],
    array: ArrayName,
    server: ServerName,
    *,
    replace: Replace = False,
    force: Force = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Rename a file."""
    with control_plane(context) as client:
        renamed = client.credentials.files.rename(
            file_space(array, server), name, new_name, replace=replace, force=force
        )
    _show(renamed, output, quiet=quiet)


@app.command("delete")
def delete_file(
    name: FileName,
    array: ArrayName,
    server: ServerName,
    *,
    force: Force = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Delete a file."""
    with control_plane(context) as client:
        client.credentials.files.delete(file_space(array, server), name, force=force)
    Printer(output, quiet=quiet).answer({"deleted": name}, f"{name} has been deleted", brief=name)


@app.command("assign")
def assign_files(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="Name of a service, such as webadmin.")],
    array: ArrayName,
    server: ServerName,
    names: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="Files; none: no more.")] = None,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Record which files a service of the server uses, instead of those so far."""
    with control_plane(context) as client:
        assigned = client.credentials.files.assign(file_space(array, server), service, names or [])
    Printer(output, quiet=quiet).rows(_COLUMNS, [_row(file) for file in assigned], brief="file")


@app.command("csr")
def create_request(
    basename: Basename,
    attributes: Attributes,
    array: ArrayName,
    server: ServerName,
    *,
    key_type: KeyType = "rsa2048",
    replace: Replace = False,
    force: Force = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Make a key and a certificate signing request: BASENAME.key and BASENAME.csr."""
    subject, chosen = read_attributes(attributes), _key_type(key_type)
    with control_plane(context) as client:
        made = client.credentials.files.create_request(
            file_space(array, server), basename, subject, key_type=chosen, replace=replace, force=force
        )
        note_unknown(client, array, server)
    show_made(made, output, quiet=quiet)


@app.command("selfsigned")
def create_self_signed(
    basename: Basename,
    attributes: Attributes,
    array: ArrayName,
    server: ServerName,
    *,
    key_type: KeyType = "rsa2048",
    days: Days = 0,
    replace: Replace = False,
    force: Force = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Make a key and a certificate that it signs itself: BASENAME.key and BASENAME.crt."""
    subject, chosen = read_attributes(attributes), _key_type(key_type)
    with control_plane(context) as client:
        made = client.credentials.files.create_self_signed(
            file_space(array, server), basename, subject, key_type=chosen, days=days, replace=replace, force=force
        )
        note_unknown(client, array, server)
    show_made(made, output, quiet=quiet)


@app.command("sign")
def sign_request(
    basename: Basename,
    ca_basename: Annotated[str, typer.Argument(metavar="CA", help="Basename of the CA's key and certificate.")],
    array: ArrayName,
    server: ServerName,
    *,
    days: Days = 0,
    replace: Replace = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Sign BASENAME.csr with CA.key and CA.crt of the server, as BASENAME.crt."""
    with control_plane(context) as client:
        made = client.credentials.files.sign_request(
            file_space(array, server), basename, ca_basename, days=days, replace=replace
        )
    show_made(made, output, quiet=quiet)


@app.command("unlock")
def unlock_key(
    name: FileName,
    array: ArrayName,
    server: ServerName,
    *,
    secret_file: SecretFile = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Replace a key that is locked with a passphrase by the same key without one."""
    passphrase = read_secret(secret_file)
    with control_plane(context) as client:
        _show(client.credentials.files.unlock(file_space(array, server), name, passphrase), output, quiet=quiet)


def read_attributes(texts: list[str]) -> "RequestAttributes":
    """Parse `CN:value` and the like."""
    from keyreeve.file_values import RequestAttributes

    given: dict[str, Any] = {"common_name": ""}
    for text in texts:
        name, colon, value = text.partition(":")
        field = _ATTRIBUTES.get(name)
        if field is None or not colon:
            raise typer.BadParameter(f"{text!r} does not begin with one of {', '.join(_ATTRIBUTES)} and a colon")
        if given.get(field):
            raise typer.BadParameter(f"{name} is given twice")
        given[field] = tuple(value.split(",")) if field == "names" else value
    return RequestAttributes(**given)


def _read(source: Path) -> bytes:
    most = (1 << 20) + 1
    try:
        if str(source) == "-":
            return sys.stdin.buffer.read(most)
        with source.open("rb") as opened:
            return opened.read(most)
    except OSError as problem:
        raise FileUnusable(f"cannot read {source}: {problem.strerror}") from None


def file_space(array: str, server: str) -> "FileSpace":
    """The file space of a server."""
    from keyreeve.file_values import FileSpace

    return FileSpace(array, server)


def _key_type(text: str) -> Any:  # noqa: ANN401 - a FileKeyType
    from keyreeve.file_values import FileKeyType

    if text not in set(FileKeyType):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(FileKeyType)}", param_hint="--key-type")
    return FileKeyType(text)


def _show(file: "KeyFile", output: Format, *, quiet: bool) -> None:
    row = _row(file)
    Printer(output, quiet=quiet).answer(row, fields(row), brief=file.file)


def show_made(made: "MadeFiles", output: Format, *, quiet: bool) -> None:
    """Print the names of new files and of those that they replaced, and warnings."""
    document = {
        "files": [_row(file) for file in made.files],
        "kept_files": [_row(file) for file in made.kept_files],
        "warnings": list(made.warnings),
    }
    lines = [f"created {file.file}" for file in made.files]
    lines += [f"kept the replaced file as {file.file}" for file in made.kept_files]
    lines += [f"warning: {warning}" for warning in made.warnings]
    brief = "".join(f"{file.file}\n" for file in made.files)
    Printer(output, quiet=quiet).answer(document, "\n".join(lines), brief=brief)


def _row(file: "KeyFile") -> dict[str, Any]:
    return {
        "file": file.file,
        "size": file.size,
        "private_key": file.holds_private_key,
        "used_by": list(file.used_by),
        "version": file.version,
        "created_at": moment(file.created_at),
        "updated_at": moment(file.updated_at),
    }
