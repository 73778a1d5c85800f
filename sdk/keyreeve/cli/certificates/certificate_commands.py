"""`keyreeve cert`: request, inspect, verify and renew certificates."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, read_lifetime, read_name
from keyreeve.cli.certificates.forms import (
    FILE_NAMES,
    FORM_HELP,
    FileForm,
    Material,
    check_form,
    mode_of,
    render,
    root_of,
)
from keyreeve.cli.completion import authority_names, profile_names
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.options import ContextFile, Output, Quiet, command_name, shown
from keyreeve.cli.printing import Format, Printer, moment, until
from keyreeve.errors import FileUnusable

if TYPE_CHECKING:
    from keyreeve import Client
    from keyreeve.values import SignedCertificate

app = typer.Typer(help="Request, inspect, verify, renew and revoke certificates.", no_args_is_help=True)

Profile = Annotated[
    str,
    typer.Option(
        "--profile", "-p", help="Profile to issue under (`keyreeve profile list`).", autocompletion=profile_names
    ),
]
Lifetime = Annotated[
    str | None, typer.Option("--lifetime", help="Lifetime, such as 30d or 12h. Default: the profile's.")
]
Names = Annotated[
    list[str] | None,
    typer.Option("--san", help="Additional name, such as dns:web.example.test or ip:10.0.0.1; repeatable."),
]
Authority = Annotated[
    str | None,
    typer.Option(
        "--authority",
        help="CA that signs. Default: the newest active one of the hierarchy.",
        autocompletion=authority_names,
    ),
]

CommonNameOption = Annotated[
    str | None,
    typer.Option("--common-name", help="CN of the subject; for clients also no DNS name, such as a database user."),
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="File whose first line is the password of pkcs12 and pkcs8.")
]


class KeyChoice(StrEnum):
    """Key types of `cert issue`."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


@app.command("issue")
def issue_certificate(
    name: Annotated[str, typer.Argument(help="Name to certify, such as web.example.test or spiffe://...")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for key.pem, certificate.pem and chain.pem.")],
    profile: Profile = "server",
    key_type: Annotated[KeyChoice, typer.Option("--key-type", help="Type of the new key.")] = KeyChoice.P256,
    lifetime: Lifetime = None,
    san: Names = None,
    authority: Authority = None,
    common_name: CommonNameOption = None,
    form: Annotated[
        list[FileForm] | None, typer.Option("--form", help=f"Also write a file of this form; repeatable: {FORM_HELP}.")
    ] = None,
    password_file: PasswordFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing key.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Generate a key on this machine and have a certificate issued for it.

    The private key never leaves this machine. certificate.pem contains the certificate, then its chain without the root,
    as nginx and most servers expect.
    """
    from keyreeve.cli.certificates.certificate_files import Folder, read_password, save_private_key, write_bytes
    from keyreeve.keys import make_csr, make_key
    from keyreeve.values import KeyType

    folder = Folder(out)
    if folder.key.exists() and not force:
        raise typer.BadParameter(
            f"{shown(folder.key)} exists: `{command_name()} cert renew {shown(out)}` renews it, --force replaces it",
            param_hint="--out",
        )
    names = tuple(read_name(each) for each in (name, *(san or ())))
    span = read_lifetime(lifetime)
    password = None if password_file is None else read_password(password_file)
    for each in form or ():
        check_form(each, has_key=True, has_password=password is not None)
    also = {each: folder.path / FILE_NAMES[each] for each in form or ()}
    key = make_key(KeyType(key_type))
    with folder.tried(also.values()), control_plane(context) as client:
        if FileForm.ROOT in also:
            _check_roots(client, profile, authority)
        signed = client.certificates.sign(
            profile, make_csr(key, names), lifetime=span, authority=authority, common_name=common_name
        )
        bundle = client.context.estate_bundle
    with _told_as_issued(signed):
        save_private_key(folder.key, key)
        folder.save(signed)
        material = Material(signed.certificate_der, signed.chain_der, _roots(bundle), key, password, name)
        for each, path in also.items():
            write_bytes(path, render(each, material), mode=mode_of(each))
    printer = Printer(output, quiet=quiet)
    files = {"key": str(folder.key), "file": str(folder.certificate), "chain": str(folder.chain)}
    files |= {each.value: str(path) for each, path in also.items()}
    text = _issued_text(printer, signed, folder=folder.path, name=name, profile=profile, bundle=bundle)
    printer.answer(signed_fields(signed) | files, text, brief=str(folder.certificate))


@contextmanager
def _told_as_issued(signed: "SignedCertificate") -> Iterator[None]:
    """Name the serial of a certificate that has been issued when its files cannot be written."""
    try:
        yield
    except (FileUnusable, BrokenPipeError):
        print_error(f"the certificate has been issued: `{command_name()} cert get {signed.serial}` writes it again")
        raise


def _check_roots(client: "Client", profile: str, authority: str | None) -> None:
    """Raise `FileUnusable` when the bundle lacks the root of a CA that may sign: before anything is issued."""
    import json

    from keyreeve.values import AuthorityKind, AuthorityState, Hierarchy

    bundle = client.context.estate_bundle
    if not bundle.exists():
        raise FileUnusable(f"{bundle}, which has the roots, does not exist")
    if authority is not None:
        signers = [client.authorities.get(authority)]
    else:
        hierarchy = Hierarchy(json.loads(client.profiles.get(profile).document)["hierarchy"])
        signers = [
            each
            for each in client.authorities.list()
            if (each.hierarchy, each.kind, each.state) == (hierarchy, AuthorityKind.INTERMEDIATE, AuthorityState.ACTIVE)
        ]
    roots = _roots(bundle)
    for signer in signers:
        try:
            root_of(signer.certificate_der, roots)
        except FileUnusable:
            name = signer.name.removeprefix("authorities/")
            raise FileUnusable(f"{bundle} lacks the root of {name}, which may sign; nothing has been issued") from None


def _roots(bundle: Path) -> list[bytes]:
    from keyreeve.keys import load_certificates

    return load_certificates(bundle) if bundle.exists() else []


def _issued_text(
    printer: Printer, signed: "SignedCertificate", *, folder: Path, name: str, profile: str, bundle: Path
) -> str:
    good = f"{printer.palette.green}✔{printer.palette.plain}"
    here = shown(folder)
    roots = shown(bundle)
    lines = [
        f"{good} {name}, serial {signed.serial}, until {until(signed.not_after, datetime.now(UTC))}",
        f"  {here}/key.pem          private key (readable by you only)",
        f"  {here}/certificate.pem  certificate and chain, as nginx expects",
        f"  {here}/chain.pem        chain alone",
        "next:",
    ]
    if profile == "client":
        lines += [
            f"  curl --cert {here}/certificate.pem --key {here}/key.pem --cacert {roots} https://SERVER/",
            f"  openssl verify -x509_strict -CAfile {roots} -untrusted {here}/chain.pem {here}/certificate.pem",
        ]
    else:
        lines += [
            f"  openssl s_server -accept 8443 -www -key {here}/key.pem -cert {here}/certificate.pem -cert_chain {here}/chain.pem",
            f"  curl --cacert {roots} --resolve {name}:8443:127.0.0.1 https://{name}:8443/",
        ]
    lines.append(f"renew after {moment(signed.renew_at)}: {command_name()} cert renew {here}")
    return "\n".join(lines)


@app.command("sign")
def sign_csr(
    *,
    csr: Annotated[Path, typer.Option("--csr", help="CSR in PEM or DER; - is standard input.")],
    profile: Profile = "server",
    out: Annotated[
        Path, typer.Option("--out", help="File for the certificate and its chain; - is standard output.")
    ] = Path("-"),
    lifetime: Lifetime = None,
    san: Names = None,
    authority: Authority = None,
    common_name: CommonNameOption = None,
    form: Annotated[FileForm, typer.Option("--form", help=f"Form of the file: {FORM_HELP}.")] = FileForm.FULLCHAIN,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Have a certificate signed for a CSR of any program, such as `openssl req -new`.

    The file contains the certificate, then its chain without the root. What the profile leaves out of the CSR is printed to
    standard error.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, check_writable, read_request, write_bytes

    check_form(form, has_key=False, has_password=False)
    request = read_request(csr)
    names = tuple(read_name(each) for each in san or ())
    span = read_lifetime(lifetime)
    check_writable(out)
    with control_plane(context) as client:
        if form is FileForm.ROOT:
            _check_roots(client, profile, authority)
        signed = client.certificates.sign(
            profile, request, names=names, lifetime=span, authority=authority, common_name=common_name
        )
        bundle = client.context.estate_bundle
    printer = Printer(output, quiet=quiet)
    if printer.is_text and signed.ignored:
        print_error("\n".join(f"left out: {what}" for what in signed.ignored))
    with _told_as_issued(signed):
        data = render(form, Material(signed.certificate_der, signed.chain_der, _roots(bundle)))
        if out != STANDARD_STREAM or output is Format.TABLE:
            write_bytes(out, data)
    if out != STANDARD_STREAM:
        printer.answer(
            signed_fields(signed) | {"file": str(out)},
            f"{printer.palette.green}✔{printer.palette.plain} {shown(out)}: serial {signed.serial}, "
            f"until {until(signed.not_after, datetime.now(UTC))}",
        )
    elif output is not Format.TABLE:
        printer.answer(signed_fields(signed) | {"pem": signed.pem()}, "")


def signed_fields(signed: "SignedCertificate") -> dict[str, Any]:
    return {
        "serial": signed.serial,
        "authority": signed.authority,
        "not_before": signed.not_before.isoformat(),
        "not_after": signed.not_after.isoformat(),
        "renew_at": signed.renew_at.isoformat(),
        "ignored": list(signed.ignored),
    }
