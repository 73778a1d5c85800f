"""`keyreeve cert inspect`, `verify`, `list`, `show`, `get` and `export`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, load_context, read_instant
from keyreeve.cli.certificates.certificate_commands import PasswordFile
from keyreeve.cli.certificates.forms import FORM_HELP, FileForm, Material, check_form, mode_of, render
from keyreeve.cli.certificates.serial_numbers import one_serial, read_serials
from keyreeve.cli.completion import authority_names, profile_names
from keyreeve.cli.options import ContextFile, Output, Quiet, shown
from keyreeve.cli.printing import Format, Printer, fields, moment, until
from keyreeve.errors import CertificateNotFound

if TYPE_CHECKING:
    from cryptography import x509

    from keyreeve import Client
    from keyreeve.values import Certificate

_OWN = frozenset({"service", "enrollment"})
"""Profiles of the CA's own certificates, which it renews every day."""


class State(StrEnum):
    """Values of `cert list --state`."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Trusted(StrEnum):
    """Bundles of the context."""

    CONTROL = "control"
    ESTATE = "estate"


def add_to(certificates: typer.Typer) -> None:
    """Add the commands that read certificates to `keyreeve cert`."""
    certificates.command("inspect")(inspect_certificates)
    certificates.command("verify")(verify_certificate)
    certificates.command("list")(list_certificates)
    certificates.command("show")(show_certificate)
    certificates.command("get")(get_certificate)
    certificates.command("export")(export_certificate)


def inspect_certificates(
    file: Annotated[
        Path,
        typer.Argument(help="Certificates, requests, CRLs, PKCS #7 or PKCS #12, in PEM or DER; - is standard input."),
    ],
    *,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="File with the password of a PKCS #12 file.")
    ] = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print what a file of certificates, requests or CRLs contains. Makes no call.

    A part that cannot be read says so.
    """
    from keyreeve.cli.certificates.certificate_files import read_password
    from keyreeve.cli.certificates.inspection import inspect_file

    documents = inspect_file(file, None if password_file is None else read_password(password_file))
    text = "\n".join(fields({key: value for key, value in document.items() if value != []}) for document in documents)
    brief = "\n".join(str(document.get("serial", document["kind"])) for document in documents)
    Printer(output, quiet=quiet).answer(documents, text, brief=brief)


def verify_certificate(
    file: Annotated[Path, typer.Argument(help="Certificate and chain, leaf first.")],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--for", help="DNS name, IP address or SPIFFE ID that the certificate must have. Default: its own use."
        ),
    ] = None,
    trusted: Annotated[Trusted | None, typer.Option("--trust", help="Bundle of the context to trust.")] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="PEM file of roots to trust instead.")] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Verify a certificate as a relying party does: path, validity, usage and name.

    Makes no call.

    Exit code 1 when it is not valid.
    """
    from keyreeve.cli.certificates.certificate_files import first_name, read_certificates
    from keyreeve.cli.certificates.trust_checks import verify_for

    presented = read_certificates(file)
    if bundle is None:
        is_identity = name is not None and name.startswith("spiffe://")
        line = trusted or (Trusted.CONTROL if is_identity else Trusted.ESTATE)
        found = load_context(context)
        bundle = found.bundle if line is Trusted.CONTROL else found.estate_bundle
    chain = verify_for(read_certificates(bundle), presented, name, datetime.now(UTC))
    printer = Printer(output, quiet=quiet)
    path = [first_name(certificate) for certificate in chain]
    result = {
        "good": True,
        "for": name,
        "not_after": presented[0].not_valid_after_utc.isoformat(),
        "path": path,
        "bundle": str(bundle),
    }
    text = f"{printer.palette.green}✔{printer.palette.plain} good" + (f" for {name}" if name else _use_of(presented[0]))
    text += f" until {until(presented[0].not_valid_after_utc, datetime.now(UTC))}\n"
    text += "  path: " + " <- ".join(path)
    printer.answer(result, text)


def _use_of(certificate: "x509.Certificate") -> str:
    from keyreeve.cli.certificates.certificate_files import describe
    from keyreeve.cli.certificates.trust_checks import server_name

    if server_name(certificate) is None:
        return " as a client"
    return " as a server and a client" if "clientAuth" in describe(certificate)["usages"] else " as a server"


def list_certificates(
    which: Annotated[
        str | None, typer.Argument(metavar="[SERIAL|FILE]", help="Only this certificate, or those in a file.")
    ] = None,
    *,
    authority: Annotated[
        str | None, typer.Option("--authority", help="Only those signed by this CA.", autocompletion=authority_names)
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option("--profile", "-p", help="Only those issued under this profile.", autocompletion=profile_names),
    ] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Only those of this identity.")] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    expires_before: Annotated[
        str | None,
        typer.Option("--expires-before", help="Only those that expire before a time, or within a duration such as 7d."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The newest N. Default: all.")] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Also the CA's own certificates (profiles service and enrollment).")
    ] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List certificates of the ledger, newest first."""
    from itertools import islice

    from keyreeve.values import CertificateState

    before = read_instant(expires_before)
    if which is not None and any((authority, profile, identity, state, expires_before, limit, own)):
        raise typer.BadParameter("conditions, --limit and --own are for the whole ledger, not for a SERIAL or FILE")
    # The service finds the certificates of an identity, and those that are revoked, without reading the rest.
    newest_first = limit is not None and identity is None and state is not State.REVOKED
    with control_plane(context) as client:
        if which is not None:
            found = _those_known(client, read_serials(which))
        else:
            listed = client.certificates.list(
                authority=authority,
                profile=profile,
                identity=identity,
                state=None if state is None else CertificateState(state),
                expires_before=before,
                newest_first=newest_first,
                page_size=500 if limit is None else min(500, max(50, limit)),
            )
            hidden = frozenset() if own or profile is not None else _OWN
            wanted = (each for each in listed if each.profile.removeprefix("profiles/") not in hidden)
            found = list(islice(wanted if newest_first else sorted(wanted, key=_age, reverse=True), limit))
        rows = [certificate_row(each) for each in found]
    columns = ("serial", "identity", "profile", "state", "issued_at", "not_after")
    Printer(output, quiet=quiet).rows(columns, rows, brief="serial", none="no certificate matches")


def _those_known(client: "Client", serials: Sequence[str]) -> "list[Certificate]":
    """Get certificates; of several, those that the ledger has: not the chain's, which a CA has not issued to anyone.

    Raises `CertificateNotFound` when it has none.
    """
    found = []
    for serial in serials:
        try:
            found.append(client.certificates.get(serial))
        except CertificateNotFound:
            if serial == serials[-1] and not found:
                raise
    return found


def _age(certificate: "Certificate") -> tuple[datetime, str]:
    return certificate.issued_at, certificate.serial


def certificate_row(certificate: "Certificate") -> dict[str, Any]:
    return {
        "serial": certificate.serial,
        "identity": certificate.identity,
        "profile": certificate.profile.removeprefix("profiles/"),
        "profile_version": certificate.profile_version,
        "state": certificate.state.value,
        "not_before": moment(certificate.not_before),
        "not_after": moment(certificate.not_after),
        "issued_at": moment(certificate.issued_at),
        "authority": certificate.authority.removeprefix("authorities/"),
        "requester": certificate.requester,
        "renews": certificate.renews.removeprefix("certificates/"),
        "revoked_at": certificate.revoked_at and moment(certificate.revoked_at),
        "revocation_reason": certificate.revocation_reason and certificate.revocation_reason.value,
        "revoker": certificate.revoker,
        "ignored": list(certificate.ignored),
    }


def show_certificate(
    which: Annotated[str, typer.Argument(metavar="SERIAL|FILE", help="Serial number in any spelling, or a file.")],
    *,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Show a certificate of the ledger."""
    from cryptography import x509

    from keyreeve.cli.certificates.certificate_files import names_of

    serial = one_serial(which)
    with control_plane(context) as client:
        found = client.certificates.get(serial)
    row = certificate_row(found) | {"names": names_of(x509.load_der_x509_certificate(found.certificate_der))}
    Printer(output, quiet=quiet).item(
        {key: value for key, value in row.items() if value not in ("", None, [])}, brief="state"
    )


def get_certificate(
    which: Annotated[str, typer.Argument(metavar="SERIAL", help="Serial number in any spelling.")],
    *,
    out: Annotated[Path, typer.Option("--out", help="File to write; - is standard output.")] = Path("-"),
    form: Annotated[FileForm, typer.Option("--form", help=f"Form of the file: {FORM_HELP}.")] = FileForm.FULLCHAIN,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write a certificate of the ledger again, with its chain."""
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, check_writable, write_bytes
    from keyreeve.keys import load_certificates

    check_form(form, has_key=False, has_password=False)
    serial = one_serial(which)
    check_writable(out)
    with control_plane(context) as client:
        found = client.certificates.get(serial)
        bundle = client.context.estate_bundle
        material = Material(
            found.certificate_der, _chain_of(client, found), load_certificates(bundle) if bundle.exists() else []
        )
    write_bytes(out, render(form, material))
    if out != STANDARD_STREAM:
        Printer(output, quiet=quiet).answer(
            {"serial": found.serial, "file": str(out)}, f"{shown(out)}: {found.identity}, serial {found.serial}"
        )


def _chain_of(client: "Client", certificate: "Certificate") -> list[bytes]:
    from keyreeve.values import AuthorityKind

    authority = client.authorities.get(certificate.authority)
    return [] if authority.kind is AuthorityKind.ROOT else [authority.certificate_der]


def export_certificate(
    place: Annotated[
        Path, typer.Argument(help="Directory of `cert issue`, or a file with the certificate and its chain.")
    ],
    *,
    form: Annotated[FileForm, typer.Option("--form", help=f"Form of the file: {FORM_HELP}.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; - is standard output.")],
    key: Annotated[Path | None, typer.Option("--key", help="Private key of a certificate FILE.")] = None,
    password_file: PasswordFile = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Write a certificate that is here in a form that another program reads. Makes no call."""
    from cryptography.hazmat.primitives.serialization import Encoding

    from keyreeve.cli.certificates.certificate_files import (
        STANDARD_STREAM,
        Folder,
        check_writable,
        first_name,
        read_certificates,
        read_password,
        read_private_key,
        write_bytes,
    )

    folder = Folder(place) if place.is_dir() else None
    key_file = key or (folder.key if folder else None)
    private = None if key_file is None or form in {FileForm.ROOT, FileForm.CHAIN} else read_private_key(key_file)
    password = None if password_file is None else read_password(password_file)
    presented = read_certificates(folder.certificate if folder else place)
    roots = read_certificates(load_context(context).estate_bundle) if form is FileForm.ROOT else []
    leaf, *chain = [each.public_bytes(Encoding.DER) for each in presented]
    data = render(
        form,
        Material(
            leaf,
            chain,
            [each.public_bytes(Encoding.DER) for each in roots],
            private,
            password,
            first_name(presented[0]),
        ),
    )
    check_writable(out)
    write_bytes(out, data, mode=mode_of(form))
    if out != STANDARD_STREAM:
        Printer(output, quiet=quiet).answer(
            {"file": str(out), "form": form.value}, f"{shown(out)}: {form}", brief=str(out)
        )
