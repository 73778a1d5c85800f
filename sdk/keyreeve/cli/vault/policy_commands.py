"""`keyreeve vault policy`: who may read and manage the entries of the vault."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, moment, table
from keyreeve.errors import FileUnusable

if TYPE_CHECKING:
    from keyreeve.vault_values import Policy, PolicyRule

app = typer.Typer(help="Show, change and simulate who may read and manage entries.", no_args_is_help=True)

PolicyName = Annotated[str, typer.Argument(metavar="POLICY", help="Name of the policy (`keyreeve vault policy list`).")]
Document = Annotated[Path, typer.Argument(metavar="FILE", help="List of rules in YAML or JSON; - is standard input.")]
_LISTS = ("callers", "purposes", "arrays", "owners", "resources")


@app.command("list")
def list_policies(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the policies in force with their rules; `-o json` has the form that `apply` takes, under `rules`."""
    with control_plane(context) as client:
        found = [_row(policy) for policy in client.credentials.policies.list()]
    columns = ("policy", "version", *_LISTS[:2], "membership", *_LISTS[2:])
    lines = [
        {"policy": row["name"], "version": row["version"], **rule}
        for row in found
        for rule in (row["rules"] or [{"callers": "(no rules)"}])
    ]
    Printer(output, quiet=quiet).answer(
        found, table(columns, lines), brief="".join(f"{row['name']}\n" for row in found)
    )


@app.command("apply")
def apply_policy(
    policy: PolicyName,
    file: Document,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Store a new version of a policy; in force within a second. Equal rules create no version."""
    rules = _read_rules(file)
    with control_plane(context) as client:
        made = client.credentials.policies.apply(policy, rules)
    row = _row(made)
    Printer(output, quiet=quiet).answer(row, f"{row['name']}: version {made.version}", brief=str(made.version))


@app.command("simulate")
def simulate_policy(
    policy: PolicyName,
    file: Document,
    *,
    sample: Annotated[int, typer.Option("--sample", min=1, max=1000, help="Number of the last reads.")] = 100,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Evaluate the last reads of secrets under other rules. Changes nothing."""
    rules = _read_rules(file)
    with control_plane(context) as client:
        found = client.credentials.policies.simulate(policy, rules, sample_size=sample)
    rows = [
        {
            "caller": read.caller,
            "array": read.array,
            "owner": read.owner,
            "resource": read.resource,
            "purpose": read.purpose,
            "read_at": moment(read.read_at),
            "outcome": "allowed" if read.allowed else "denied",
        }
        for read in found.reads
    ]
    text = f"{found.examined} reads: {found.newly_denied} newly denied, {found.newly_allowed} newly allowed\n"
    if rows:
        text += table(tuple(rows[0]), rows)
    document = {
        "examined": found.examined,
        "newly_denied": found.newly_denied,
        "newly_allowed": found.newly_allowed,
        "reads": rows,
    }
    Printer(output, quiet=quiet).answer(document, text, brief=f"{found.newly_denied} {found.newly_allowed}")


def _read_rules(file: Path) -> "list[PolicyRule]":
    """Read rules. Raises `FileUnusable`."""
    import sys

    import yaml

    from keyreeve.vault_values import Membership, PolicyRule

    try:
        document = yaml.safe_load(sys.stdin.read() if str(file) == "-" else file.read_text())
        rows = document["rules"] if isinstance(document, dict) else document
        return [
            PolicyRule(
                **{name: tuple(str(text) for text in row.pop(name, ())) for name in _LISTS},
                membership=Membership(row.pop("membership", "any")),
                **row,
            )
            for row in [dict(row) for row in rows]
        ]
    except OSError as problem:
        raise FileUnusable(f"cannot read {file}: {problem.strerror}") from problem
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as problem:
        raise FileUnusable(f"{file} is no list of rules: {' '.join(str(problem).split())}") from problem


def _row(policy: "Policy") -> dict[str, Any]:
    return {
        "name": policy.name.removeprefix("policies/"),
        "version": policy.version,
        "rules": [
            {name: list(getattr(rule, name)) for name in _LISTS if getattr(rule, name)}
            | ({"membership": rule.membership.value} if rule.membership.value != "any" else {})
            for rule in policy.rules
        ],
        "creator": policy.creator,
        "created_at": None if policy.created_at is None else moment(policy.created_at),
    }
