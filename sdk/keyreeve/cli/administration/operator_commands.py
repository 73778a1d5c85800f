"""`keyreeve operator`: the people who operate the control plane.

`keyreeve whoami`: the caller's own identity.
"""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.certificates.certificate_files import read_certificates, serial_text
from keyreeve.cli.options import ContextFile, Output, Quiet, command_name, shown
from keyreeve.cli.printing import Format, Printer, fields, moment, until

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.values import Certificate, Invitation, Operator

app = typer.Typer(help="Invite operators, change their roles and keys, and remove them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the operator, the last part of the identity.")]
RoleOption = Annotated[str, typer.Option("--role", help="admin, operator or auditor.")]
Address = Annotated[
    str, typer.Option("--address", help="host:port of the enrollment listener as the operator reaches it.")
]


def add_to(program: typer.Typer) -> None:
    """Add `whoami` to the program."""
    program.command("whoami")(whoami)


@app.command("invite")
def invite_operator(
    name: Name,
    *,
    role: RoleOption,
    address: Address = "",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Invite an operator, or renew an invitation.

    The token works once and is shown once.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, check_writable
    from keyreeve.values import OperatorRole

    wanted = _choice(role)
    check_writable(STANDARD_STREAM)  # the token is shown once
    with control_plane(context) as client:
        _print_invitation(
            Printer(output, quiet=quiet), client.operators.invite(name, OperatorRole(wanted), address=address)
        )


@app.command("approve")
def approve_change(
    name: Name,
    *,
    role: Annotated[str | None, typer.Option("--role", help="The role that they are to have.")] = None,
    removal: Annotated[bool, typer.Option("--remove", help="Approve that they are removed.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Approve a change that another admin makes within an hour.

    In production, inviting an admin, raising a role and removing an admin take two admins, known for 7 days.
    """
    from keyreeve.values import OperatorRole

    if (role is None) is not removal:
        raise typer.BadParameter("give --role or --remove", param_hint="--role")
    with control_plane(context) as client:
        approval = client.operators.approve(name, None if role is None else OperatorRole(_choice(role)))
    document = {"name": name, "change": role or "removed", "approved_until": moment(approval.expires_at)}
    Printer(output, quiet=quiet).answer(document, fields(document), brief=document["approved_until"])


@app.command("accept")
def accept_invitation(
    directory: Annotated[
        Path, typer.Option("--dir", help="New directory for the key, the certificate and the context.")
    ] = Path(".keyreeve"),
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Accept an invitation.

    It reads the token from standard input, generates a key, gets a certificate and writes the context.
    """
    from keyreeve._blocking.enrollment import enroll

    printer = Printer(output, quiet=quiet)
    if sys.stdin.isatty():
        import getpass

        token = getpass.getpass("token: ")
    else:
        token = sys.stdin.readline()
    context = enroll(token.strip(), directory)
    identity = _uri_of(context.certificate)
    printer.answer(
        {"identity": identity, "context": str(directory / "context.json")},
        f"you are {identity}\ntry: KEYREEVE_CONTEXT={shown(directory / 'context.json')} {command_name()} whoami\n",
        brief=identity,
    )


@app.command("list")
def list_operators(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the operators who have not been removed."""
    with control_plane(context) as client:
        rows = [_row(operator) for operator in client.operators.list()]
    Printer(output, quiet=quiet).rows(("name", "role", "invited_at", "invited_by", "renews_until"), rows, brief="name")


@app.command("update")
def update_operator(
    name: Name,
    *,
    role: Annotated[str | None, typer.Option("--role", help="The new role: admin, operator or auditor.")] = None,
    key_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="File of SSH public keys, one per line, as in ~/.ssh/*.pub; repeatable. They replace all earlier keys.",
        ),
    ] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Remove all keys from the record.")] = False,
    address: Address = "",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Change the role or the SSH public keys of an operator.

    A new role revokes the operator's certificates; the token is for a new one. Keys prove an operator in addition to a
    certificate; new keys replace all earlier ones, and operators cannot change their own.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, check_writable
    from keyreeve.values import OperatorRole

    check_writable(STANDARD_STREAM)  # the token for a new role is shown once
    wanted = None if role is None else OperatorRole(_choice(role))
    keys = [] if no_keys else read_public_keys(key_files) if key_files else None
    if no_keys and key_files:
        raise typer.BadParameter("--keys and --no-keys exclude each other", param_hint="--no-keys")
    if wanted is None and keys is None:
        raise typer.BadParameter("nothing to change: give --role, --keys or --no-keys")
    printer = Printer(output, quiet=quiet)
    with control_plane(context) as client:
        updated = client.operators.update(name, wanted, keys=keys, address=address)
    if updated.token:
        _print_invitation(printer, updated)
        return
    row = _row(updated.operator)
    if keys is None:
        printer.answer(row, f"{row['name']} has this role already; nothing was changed", brief="")
        return
    lines = [f"{row['name']} has these keys now:", *row["keys"]] if keys else [f"{row['name']} has no keys"]
    printer.answer(row, "\n".join(lines), brief="\n".join(row["keys"]))


@app.command("remove")
def remove_operator(
    name: Name,
    *,
    show: Annotated[
        bool, typer.Option("--show", help="Only list the valid certificates that they requested or enrolled.")
    ] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Also revoke what they requested or enrolled.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Remove an operator permanently.

    Every service refuses them within seconds, and their certificates are revoked. What they requested, or enrolled with a
    token, stays, unless --revoke is given or confirmed.
    """
    from keyreeve.values import CrlReason

    printer = Printer(output, quiet=quiet)
    with control_plane(context) as client:
        left = _enrolled_by(client, name)
        if show:
            printer.rows(("serial", "identity", "profile", "issued_at", "not_after"), left, brief="serial")
            return
        row = _row(client.operators.remove(name))
        if left and not revoke and output is Format.TABLE and not quiet and sys.stdin.isatty():
            for one in left:
                typer.echo(f"{one['serial']}  {one['identity']}", err=True)
            revoke = typer.confirm(f"Revoke the {len(left)} certificates that they enrolled, too?", err=True)
        for one in left if revoke else ():
            # What renewed one since it was listed goes, too.
            client.certificates.revoke(one["serial"], CrlReason.PRIVILEGE_WITHDRAWN, lineage=True)
    kept = [] if revoke else [one["serial"] for one in left]
    text = f"{row['name']} has been removed"
    text += f"; {len(left)} certificates that they enrolled were revoked" if revoke and left else ""
    text += f"; {len(kept)} certificates that they enrolled stay: see --show before, or revoke them" if kept else ""
    printer.answer(row | {"left": kept}, text, brief=row["name"])


def _enrolled_by(client: "Client", name: str) -> list[dict[str, Any]]:
    """The valid certificates of others that an operator requested or enrolled, in any role, and what renewed them.

    The holder of an enrolled identity renews it and is the requester then, so such identities are followed by `renews`.
    """
    from keyreeve.identity import SpiffeId
    from keyreeve.values import CertificateState

    found: dict[str, Certificate] = {}
    for role in ("admin", "operator", "auditor"):
        identity = f"spiffe://{client.context.trust_domain}/operators/{role}/{name.removeprefix('operators/')}"
        theirs = {one.name: one for one in client.certificates.list(requester=identity) if one.identity != identity}
        for holder in {one.identity for one in theirs.values()}:
            with suppress(ValueError):  # not a SPIFFE ID: only the requester renews it
                SpiffeId.parse(holder)
                renewals = {one.name: one for one in client.certificates.list(identity=holder) if one.renews}
                while more := {key: one for key, one in renewals.items() if one.renews in theirs}:
                    theirs |= more
                    renewals = {key: one for key, one in renewals.items() if key not in more}
        found |= {key: one for key, one in theirs.items() if one.state is CertificateState.VALID}
    return [
        {
            "serial": one.serial,
            "identity": one.identity,
            "profile": one.profile.removeprefix("profiles/"),
            "issued_at": moment(one.issued_at),
            "not_after": moment(one.not_after),
        }
        for one in found.values()
    ]


def whoami(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Print your identity, and whether the control plane accepts your certificate."""
    from keyreeve.cli.client_certificate import explain_failure
    from keyreeve.errors import KeyreeveError
    from keyreeve.identity import OPERATOR_ROLES, SpiffeId

    with control_plane(context) as client:
        found = client.context
        certificate = read_certificates(found.certificate)[0]
        identity = SpiffeId.parse(_uri_of(found.certificate))
        document: dict[str, Any] = {
            "identity": str(identity),
            "role": identity.role.value if identity.role else "",
            "serial": serial_text(certificate),
            "not_after": moment(certificate.not_valid_after_utc),
            "context": str(found.path or ""),
        }
        failure: KeyreeveError | None = None
        try:
            document["certificate"] = client.certificates.get(document["serial"]).state.value
            if identity.role in OPERATOR_ROLES:
                record = _row(client.operators.get(identity.path[-1]))
                document |= {key: record[key] for key in ("person_uid", "invited_at", "invited_by", "renews_until")}
        except KeyreeveError as refused:
            failure = explain_failure(found, refused)
            document["control_plane_says"] = failure.reason
        text = fields(document | {"not_after": until(certificate.not_valid_after_utc, datetime.now(UTC))})
        Printer(output, quiet=quiet).answer(document, text, brief=str(identity))
        if failure is not None:
            raise failure


def read_public_keys(files: list[Path]) -> list[str]:
    """Read the public keys in files, one per line.

    Raises `FileUnusable`; `BadParameter` for a private key.
    """
    from keyreeve.errors import FileUnusable
    from keyreeve.request_container import is_private_key

    lines: list[str] = []
    for file in files:
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            raise FileUnusable(
                f"cannot read {file}: {getattr(failure, 'strerror', None) or 'it is not text'}"
            ) from None
        if "PRIVATE KEY" in text or is_private_key(text.encode()):
            raise typer.BadParameter(
                f"{file} contains a private key: name the public one ({file}.pub)", param_hint="--keys"
            )
        lines += [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not lines:
        raise typer.BadParameter("the files contain no key; --no-keys removes all keys", param_hint="--keys")
    return lines


def _print_invitation(printer: Printer, invitation: "Invitation") -> None:
    row = _row(invitation.operator)
    expires = invitation.token_expires_at
    document = row | {"token": invitation.token, "token_expires_at": None if expires is None else moment(expires)}
    text = fields({key: row[key] for key in ("name", "role", "identity", "renews_until")})
    text += f"\nGive this token to {row['name']} only; it works once"
    text += "" if expires is None else f", until {moment(expires)}"
    text += f":\n\n{invitation.token}\n\n"
    text += f"On their machine: {command_name()} operator accept --dir DIRECTORY, then paste the token.\n"
    printer.answer(document, text, brief=invitation.token)


def _row(operator: "Operator") -> dict[str, Any]:
    return {
        "name": operator.name.removeprefix("operators/"),
        "role": operator.role.value,
        "identity": operator.identity,
        "person_uid": operator.person_uid,
        "created_at": moment(operator.created_at),
        "invited_at": moment(operator.invited_at),
        "invited_by": operator.invited_by,
        "renews_until": moment(operator.renews_until),
        "keys": [key.fingerprint for key in operator.keys],
    }


def _choice(role: str) -> str:
    from keyreeve.values import OperatorRole

    if role not in set(OperatorRole):
        raise typer.BadParameter(f"{role!r} is not one of {', '.join(OperatorRole)}", param_hint="--role")
    return role


def _uri_of(path: Path) -> str:
    from keyreeve.cli.certificates.trust_checks import uris_of

    return next(iter(uris_of(read_certificates(path)[0])), "")
