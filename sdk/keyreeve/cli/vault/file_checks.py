"""`keyreeve vault file inspect|match|verify|pkcs12`: what files contain, and whether they belong together."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.exit_codes import Exit
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment
from keyreeve.cli.vault import file_commands
from keyreeve.cli.vault.entry_commands import ArrayName
from keyreeve.cli.vault.file_commands import FileName, Force, Replace, ServerName
from keyreeve.cli.vault.secrets import SecretFile, read_secret

if TYPE_CHECKING:
    from keyreeve.file_values import FileElement

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="Name of the key file.")]
CertificateName = Annotated[str, typer.Argument(metavar="CERTIFICATE", help="Name of the certificate file.")]
pkcs12 = typer.Typer(help="PKCS#12 files.", no_args_is_help=True)


def add_to(files: typer.Typer) -> None:
    """Add the commands to `keyreeve vault file`."""
    files.command("inspect")(inspect_file)
    files.command("match")(match_files)
    files.command("verify")(verify_file)
    files.add_typer(pkcs12, name="pkcs12")


def inspect_file(
    name: FileName,
    array: ArrayName,
    server: ServerName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print what a file contains; private keys are not shown."""
    with control_plane(context) as client:
        found = client.credentials.files.inspect(file_commands.file_space(array, server), name)
    rows = [_row(element) for element in found.elements]
    text = "\n".join(fields({key: value for key, value in row.items() if value not in ("", [], None)}) for row in rows)
    text += "".join(f"warning: {warning}\n" for warning in found.warnings)
    document = {"file": found.file.file, "elements": rows, "warnings": list(found.warnings)}
    Printer(output, quiet=quiet).answer(document, text, brief="".join(f"{row['kind']}\n" for row in rows))


def match_files(
    key: KeyName,
    certificate: CertificateName,
    array: ArrayName,
    server: ServerName,
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> int:
    """Tell whether a key and a certificate match; exit code 1 if not."""
    with control_plane(context) as client:
        matches = client.credentials.files.match(file_commands.file_space(array, server), key, certificate)
    text = f"{key} and {certificate} {'match' if matches else 'do not match'}"
    Printer(output, quiet=quiet).answer({"matches": matches}, text)
    return Exit.DONE if matches else Exit.REFUSED


def verify_file(
    certificate: CertificateName,
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="Name of the bundle, or of the root.")],
    array: ArrayName,
    server: ServerName,
    root: Annotated[str, typer.Argument(metavar="[ROOT]", help="Name of a further file with the root.")] = "",
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> int:
    """Tell whether a bundle asserts a certificate; exit code 1 if not."""
    with control_plane(context) as client:
        found = client.credentials.files.verify(file_commands.file_space(array, server), certificate, bundle, root)
    document: dict[str, Any] = {
        "verified": found.verified,
        "chain": list(found.chain),
        "problems": list(found.problems),
        "warnings": list(found.warnings),
    }
    Printer(output, quiet=quiet).answer(document, fields(document))
    return Exit.DONE if found.verified else Exit.REFUSED


@pkcs12.command("convert")
def convert_pkcs12(
    name: FileName,
    basename: Annotated[str, typer.Argument(metavar="BASENAME", help="Of the new files.")],
    array: ArrayName,
    server: ServerName,
    *,
    secret_file: SecretFile = None,
    replace: Replace = False,
    force: Force = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Take a PKCS#12 apart: a key, a certificate, and a bundle of the others."""
    passphrase = read_secret(secret_file)
    with control_plane(context) as client:
        made = client.credentials.files.convert_pkcs12(
            file_commands.file_space(array, server), name, passphrase, basename, replace=replace, force=force
        )
    file_commands.show_made(made, output, quiet=quiet)


@pkcs12.command("export")
def export_pkcs12(
    key: KeyName,
    certificate: CertificateName,
    name: Annotated[str, typer.Argument(metavar="FILE", help="Name of the new file.")],
    array: ArrayName,
    server: ServerName,
    *,
    bundle: Annotated[str, typer.Option("--bundle", help="Name of a bundle to add.")] = "",
    alias: Annotated[str, typer.Option("--alias", help="Name of the key in it.")] = "",
    legacy: Annotated[
        bool, typer.Option("--legacy", help="3DES and SHA-1, for programs from before about 2018.")
    ] = False,
    secret_file: SecretFile = None,
    replace: Replace = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Store a key and its certificates as a PKCS#12."""
    passphrase = read_secret(secret_file)
    with control_plane(context) as client:
        made = client.credentials.files.export_pkcs12(
            file_commands.file_space(array, server),
            key,
            certificate,
            name,
            passphrase,
            bundle=bundle,
            alias=alias,
            legacy=legacy,
            replace=replace,
        )
    file_commands.show_made(made, output, quiet=quiet)


def _row(element: "FileElement") -> dict[str, Any]:
    return {
        "kind": element.kind,
        "encoding": element.encoding,
        "key_type": element.key_type,
        "subject": element.subject,
        "issuer": element.issuer,
        "serial": element.serial,
        "not_before": "" if element.not_before is None else moment(element.not_before),
        "not_after": "" if element.not_after is None else moment(element.not_after),
        "names": list(element.names),
        "ca": element.is_ca or None,
        "sha256": element.sha256.hex(),
        "spki_sha256": element.spki_sha256.hex(),
    }
