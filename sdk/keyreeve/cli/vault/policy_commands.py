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
BUILT_IN = "built-in"
DEFAULT_RULES: tuple[dict[str, Any], ...] = (
    {"callers": ["operators/admin/*"], "purposes": ["*"]},
    {"callers": ["operators/operator/*"], "purposes": ["manage", "list"]},
    {"callers": ["operators/auditor/*"], "purposes": ["list"]},
    {"callers": ["members/*"], "purposes": ["launch"], "membership": "member"},
    {"callers": ["members/*"], "purposes": ["manage", "list"], "membership": "primary"},
)
"""The rules of `built-in` until another version is applied, as the service has them."""


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
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask for confirmation when default rules of built-in are left out.")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Store a new version of a policy; in force within a second. Equal rules create no version.

    A document for `built-in` replaces the default rules: it asks for confirmation when one of them is left out.
    """
    rules = _read_rules(file)
    if policy.removeprefix("policies/") == BUILT_IN and not yes:
        _confirm_loss(rules, file)
    with control_plane(context) as client:
        made = client.credentials.policies.apply(policy, rules)
    row = _row(made)
    Printer(output, quiet=quiet).answer(row, f"{row['name']}: version {made.version}", brief=str(made.version))


@app.command("default")
def print_default() -> None:
    """Print the default rules of built-in; `keyreeve vault policy apply built-in -` takes them back into force."""
    Printer(Format.YAML).answer(list(DEFAULT_RULES), "")


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


def _confirm_loss(rules: "list[PolicyRule]", file: Path) -> None:
    """Ask before default rules get lost. Raises `typer.Abort`, and `typer.BadParameter` when nobody can be asked."""
    kept = [_rule_row(rule) for rule in rules]
    lost = [rule for rule in DEFAULT_RULES if rule not in kept]
    if not lost:
        return
    typer.echo("These default rules are not in the document, and what only they allow will be denied:", err=True)
    for rule in lost:
        standing = f" ({rule['membership']} of the array)" if "membership" in rule else ""
        typer.echo(f"  {', '.join(rule['callers'])}{standing}: {', '.join(rule['purposes'])}", err=True)
    typer.echo("`keyreeve vault policy default` prints them.", err=True)
    if str(file) == "-":
        raise typer.BadParameter("the rules come from standard input, so nobody can be asked: add --yes")
    typer.confirm("Replace them?", abort=True, err=True)


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
        "rules": [_rule_row(rule) for rule in policy.rules],
        "creator": policy.creator,
        "created_at": None if policy.created_at is None else moment(policy.created_at),
    }


def _rule_row(rule: "PolicyRule") -> dict[str, Any]:
    return {name: list(getattr(rule, name)) for name in _LISTS if getattr(rule, name)} | (
        {"membership": rule.membership.value} if rule.membership.value != "any" else {}
    )
