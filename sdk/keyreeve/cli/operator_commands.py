"""`keyreeve operator`: the people who operate the control plane; `keyreeve whoami`: which of them this is."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.certificate_files import read_certificates, serial_text
from keyreeve.cli.options import ContextFile, Output, Quiet, command_name, shown
from keyreeve.cli.printing import Format, Printer, fields, moment, until

if TYPE_CHECKING:
    from keyreeve.values import Invitation, Operator

app = typer.Typer(help="Invite people, give them roles, and put them out.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The person's name, the last part of the identity.")]
RoleOption = Annotated[str, typer.Option("--role", help="admin, operator or auditor.")]
Address = Annotated[
    str, typer.Option("--address", help="host:port of the enrollment listener as the person reaches it.")
]


def add_to(program: typer.Typer) -> None:
    """Put `whoami` into the command hierarchy."""
    program.command("whoami")(whoami)


@app.command("invite")
def invite(
    name: Name,
    *,
    role: RoleOption,
    address: Address = "",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Invite a person, or invite them again: the token is theirs alone, works once, and is shown once."""
    from keyreeve.values import OperatorRole

    wanted = _choice(role)
    with control_plane(context) as client:
        _tell_invitation(
            Printer(output, quiet=quiet), client.operators.invite(name, OperatorRole(wanted), address=address)
        )


@app.command("accept")
def accept(
    directory: Annotated[
        Path, typer.Option("--dir", help="New directory for the key, the certificate and the context.")
    ] = Path(".keyreeve"),
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Accept an invitation: read its token from standard input, make a key, get the certificate, write the context."""
    from keyreeve._blocking.enrollment import enroll

    printer = Printer(output, quiet=quiet)
    if sys.stdin.isatty():
        import getpass

        token = getpass.getpass("token: ")
    else:
        token = sys.stdin.readline()
    context = enroll(token.strip(), directory)
    identity = _uri_of(context.certificate)
    told = {"identity": identity, "context": str(directory / "context.json")}
    printer.answer(
        told,
        f"you are {identity}\ntry: KEYREEVE_CONTEXT={shown(directory / 'context.json')} {command_name()} whoami\n",
        essence=identity,
    )


@app.command("list")
def list_operators(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List everybody who has not been removed."""
    with control_plane(context) as client:
        rows = [_row(operator) for operator in client.operators.list()]
    Printer(output, quiet=quiet).rows(
        ("name", "role", "invited_at", "invited_by", "renews_until"), rows, essence="name"
    )


@app.command("update")
def update(
    name: Name,
    *,
    role: Annotated[str | None, typer.Option("--role", help="The new role: admin, operator or auditor.")] = None,
    key_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--keys",
            metavar="FILE",
            help="All the public keys that the person is to have, one on a line, as in ~/.ssh/*.pub; may be repeated.",
        ),
    ] = None,
    no_keys: Annotated[bool, typer.Option("--no-keys", help="Take all keys out of the record.")] = False,
    address: Address = "",
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Give a person another role, or other public keys.

    Another role revokes the certificates of the old one, and the token is for a new one. Keys are those that prove the
    person beside a certificate; the new ones replace all that there were, and nobody changes their own.
    """
    from keyreeve.values import OperatorRole

    wanted = None if role is None else OperatorRole(_choice(role))
    keys = [] if no_keys else read_public_keys(key_files) if key_files else None
    if no_keys and key_files:
        raise typer.BadParameter("either keys or none", param_hint="--no-keys")
    if wanted is None and keys is None:
        raise typer.BadParameter("say what changes: --role, --keys, --no-keys")
    printer = Printer(output, quiet=quiet)
    with control_plane(context) as client:
        updated = client.operators.update(name, wanted, keys=keys, address=address)
    if updated.token:
        _tell_invitation(printer, updated)
        return
    person = _row(updated.operator)
    told = "\n".join(
        (f"{person['name']} has these keys now:", *person["keys"]) if keys else [f"{person['name']} has no keys"]
    )
    printer.answer(person, told, essence="\n".join(person["keys"]))


@app.command("remove")
def remove(name: Name, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Put a person out for good: refused everywhere within a second, certificates revoked."""
    with control_plane(context) as client:
        told = _row(client.operators.remove(name))
    Printer(output, quiet=quiet).answer(told, f"{told['name']} has been removed", essence=told["name"])


def whoami(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Say who you are: what your certificate says, and what the control plane says to it."""
    from keyreeve.cli.client_certificate import explained
    from keyreeve.errors import KeyreeveError
    from keyreeve.identity import OPERATOR_ROLES, SpiffeId

    with control_plane(context) as client:
        found = client.context
        certificate = read_certificates(found.certificate)[0]
        identity = SpiffeId.parse(_uri_of(found.certificate))
        told: dict[str, Any] = {
            "identity": str(identity),
            "role": identity.role.value if identity.role else "",
            "serial": serial_text(certificate),
            "not_after": moment(certificate.not_valid_after_utc),
            "context": str(found.path or ""),
        }
        failure: KeyreeveError | None = None
        try:
            told["certificate"] = client.certificates.get(told["serial"]).state.value
            if identity.role in OPERATOR_ROLES:
                record = _row(client.operators.get(identity.path[-1]))
                told |= {key: record[key] for key in ("person_uid", "invited_at", "invited_by", "renews_until")}
        except KeyreeveError as refused:
            failure = explained(found, refused)
            told["control_plane_says"] = failure.reason
        text = fields(told | {"not_after": until(certificate.not_valid_after_utc, datetime.now(UTC))})
        Printer(output, quiet=quiet).answer(told, text, essence=str(identity))
        if failure is not None:
            raise failure


def read_public_keys(files: list[Path]) -> list[str]:
    """The keys in the files, one on a line. Raises `FileUnusable`, and a mistake for a file with a private key."""
    from keyreeve.errors import FileUnusable

    lines: list[str] = []
    for file in files:
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            raise FileUnusable(
                f"cannot read {file}: {getattr(failure, 'strerror', None) or 'it is not text'}"
            ) from None
        if "PRIVATE KEY" in text:
            raise typer.BadParameter(
                f"{file} holds a private key: name the public one ({file}.pub)", param_hint="--keys"
            )
        lines += [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
    if not lines:
        raise typer.BadParameter("the files hold no key; --no-keys takes all away", param_hint="--keys")
    return lines


def _tell_invitation(printer: Printer, invitation: "Invitation") -> None:
    person = _row(invitation.operator)
    expires = invitation.token_expires_at
    told = person | {"token": invitation.token, "token_expires_at": None if expires is None else moment(expires)}
    text = fields({key: person[key] for key in ("name", "role", "identity", "renews_until")})
    text += f"\nGive this token to {person['name']}, and to nobody else; it works once"
    text += "" if expires is None else f", until {moment(expires)}"
    text += (
        f":\n\n{invitation.token}\n\nThere: {command_name()} operator accept --dir DIRECTORY, and paste the token.\n"
    )
    printer.answer(told, text, essence=invitation.token)


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
        raise typer.BadParameter(f"{role!r} is none of {', '.join(OperatorRole)}", param_hint="--role")
    return role


def _uri_of(path: Path) -> str:
    from keyreeve.cli.trust_checks import uris_of

    return next(iter(uris_of(read_certificates(path)[0])), "")
