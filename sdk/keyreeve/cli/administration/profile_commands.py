"""`keyreeve profile`: the rules of issuance."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.completion import profile_names
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment, table
from keyreeve.errors import FileUnusable, ProfileNotFound

if TYPE_CHECKING:
    from keyreeve.values import Profile

app = typer.Typer(help="Show, change and simulate the rules of issuance.", no_args_is_help=True)

ProfileId = Annotated[
    str,
    typer.Argument(
        metavar="PROFILE", help="Name of the profile (`keyreeve profile list`).", autocompletion=profile_names
    ),
]
Document = Annotated[Path, typer.Argument(metavar="FILE", help="Document in YAML or JSON; - is standard input.")]


@app.command("list")
def list_profiles(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the current version of every profile."""
    with control_plane(context) as client:
        rows = [_row(profile) for profile in client.profiles.list()]
    columns = ("name", "version", "hierarchy", "default", "maximum", "built_in", "halted", "description")
    for row in rows:
        lifetime = row["document"].get("lifetime", {})
        row |= {
            "hierarchy": row["document"].get("hierarchy"),
            "default": lifetime.get("default"),
            "maximum": lifetime.get("maximum"),
            "description": row["document"].get("description"),
        }
    Printer(output, quiet=quiet).rows(columns, rows, brief="name")


@app.command("show")
def show_profile(
    profile: ProfileId,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Version to show. Default: the current one.")
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show a profile and its document, in the form that `profile apply` takes."""
    from keyreeve.cli.printing import dump

    with control_plane(context) as client:
        row = _row(client.profiles.get(profile, version=version))
    head = f"# {row['name']}, version {row['version']}, created {row['created_at']} by {row['creator']}\n"
    if row["halted"]:
        head += "# HALTED: nothing is issued under this version\n"
    Printer(output, quiet=quiet).answer(row, head + dump(row["document"], Format.YAML), brief=str(row["version"]))


@app.command("apply")
def apply_profile(
    profile: ProfileId,
    file: Document,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Create a profile from a document, or a new version of it.

    An unchanged document creates no version.
    """
    document = _read_document(file)
    with control_plane(context) as client:
        try:
            current = client.profiles.get(profile)
        except ProfileNotFound:
            made = client.profiles.create(profile, document)
            what = "created"
        else:
            made = client.profiles.update(profile, document, version=current.version)
            what = "unchanged" if made.version == current.version else "updated"
    row = _row(made)
    Printer(output, quiet=quiet).answer(
        row | {"outcome": what}, f"{row['name']} {what}: version {made.version}", brief=str(made.version)
    )


@app.command("simulate")
def simulate_profile(
    profile: ProfileId,
    file: Document,
    *,
    sample: Annotated[
        int, typer.Option("--sample", min=1, max=1000, help="Number of the last issuances to replay.")
    ] = 100,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Replay the last issuances of a profile under another document. Changes nothing."""
    document = _read_document(file)
    with control_plane(context) as client:
        report = client.profiles.simulate(profile, document, sample_size=sample)
    rows = [
        {
            "serial": issuance.certificate.removeprefix("certificates/"),
            "outcome": issuance.outcome.value,
            "reason": issuance.reason,
            "message": issuance.message,
        }
        for issuance in report.issuances
    ]
    counts = {
        "examined": report.examined,
        "same": report.same,
        "different": report.different,
        "refused": report.refused,
    }
    text = ", ".join(f"{count} {name}" for name, count in counts.items()) + "\n"
    if rows:
        text += "\n" + table(("serial", "outcome", "reason", "message"), rows)
    Printer(output, quiet=quiet).answer(counts | {"issuances": rows}, text)


def _read_document(file: Path) -> str:
    from keyreeve.cli.certificates.certificate_files import read_sendable

    try:
        return read_sendable(file).decode()
    except UnicodeDecodeError:
        raise FileUnusable(f"{file} is not text in UTF-8") from None


def _row(profile: "Profile") -> dict[str, Any]:
    return {
        "name": profile.name.removeprefix("profiles/"),
        "version": profile.version,
        "document": json.loads(profile.document),
        "sha256": profile.sha256.hex(),
        "created_at": moment(profile.created_at),
        "creator": profile.creator,
        "halted": profile.halted,
        "built_in": profile.built_in,
    }
