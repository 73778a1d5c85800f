"""`keyreeve cert`: request, inspect, verify and renew certificates."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane, load_context, read_instant, read_lifetime, read_name
from keyreeve.cli.exit_codes import print_error
from keyreeve.cli.options import ContextFile, Output, Quiet, command_name, shown
from keyreeve.cli.printing import Format, Printer, fields, moment, until

if TYPE_CHECKING:
    from keyreeve.values import Certificate, SignedCertificate

app = typer.Typer(help="Request, inspect, verify, renew and revoke certificates.", no_args_is_help=True)

Profile = Annotated[str, typer.Option("--profile", "-p", help="Profile to issue under (`keyreeve profile list`).")]
Lifetime = Annotated[
    str | None, typer.Option("--lifetime", help="Lifetime, such as 30d or 12h. Default: the profile's.")
]
Names = Annotated[
    list[str] | None,
    typer.Option("--san", help="Additional name, such as dns:web.example.test or ip:10.0.0.1; repeatable."),
]
Authority = Annotated[
    str | None, typer.Option("--authority", help="CA that signs. Default: the newest active one of the hierarchy.")
]

CommonNameOption = Annotated[
    str | None,
    typer.Option("--common-name", help="CN of the subject; for clients also no DNS name, such as a database user."),
]


class KeyChoice(StrEnum):
    """Key types of `cert issue`."""

    P256 = "p256"
    P384 = "p384"
    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    RSA4096 = "rsa4096"
    ED25519 = "ed25519"


class State(StrEnum):
    """Values of `cert list --state`."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Trusted(StrEnum):
    """Bundles of the context."""

    CONTROL = "control"
    ESTATE = "estate"


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
    force: Annotated[bool, typer.Option("--force", help="Replace an existing key.")] = False,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Generate a key on this machine and have a certificate issued for it.

    The private key never leaves this machine. certificate.pem contains the certificate, then its chain without the root,
    as nginx and most servers expect.
    """
    from keyreeve.cli.certificates.certificate_files import Folder, save_private_key
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
    key = make_key(KeyType(key_type))
    with control_plane(context) as client:
        signed = client.certificates.sign(
            profile, make_csr(key, names), lifetime=span, authority=authority, common_name=common_name
        )
        bundle = client.context.estate_bundle
    folder.make()
    save_private_key(folder.key, key)
    folder.save(signed)
    printer = Printer(output, quiet=quiet)
    files = {"key": str(folder.key), "file": str(folder.certificate), "chain": str(folder.chain)}
    text = _issued_text(printer, signed, folder=folder.path, name=name, profile=profile, bundle=bundle)
    printer.answer(_signed(signed) | files, text, brief=str(folder.certificate))


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
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Have a certificate signed for a CSR of any program, such as `openssl req -new`.

    The file contains the certificate, then its chain without the root. What the profile leaves out of the CSR is printed to
    standard error.
    """
    from keyreeve.cli.certificates.certificate_files import STANDARD_STREAM, read_request, write_output

    request = read_request(csr)
    names = tuple(read_name(each) for each in san or ())
    span = read_lifetime(lifetime)
    with control_plane(context) as client:
        signed = client.certificates.sign(
            profile, request, names=names, lifetime=span, authority=authority, common_name=common_name
        )
    printer = Printer(output, quiet=quiet)
    if printer.is_text and signed.ignored:
        print_error("\n".join(f"left out: {what}" for what in signed.ignored))
    if out != STANDARD_STREAM:
        write_output(out, signed.pem())
        printer.answer(
            _signed(signed) | {"file": str(out)},
            f"{printer.palette.green}✔{printer.palette.plain} {shown(out)}: serial {signed.serial}, "
            f"until {until(signed.not_after, datetime.now(UTC))}",
        )
    elif output is Format.TABLE:
        write_output(out, signed.pem())
    else:
        printer.answer(_signed(signed) | {"pem": signed.pem()}, "")


def _signed(signed: "SignedCertificate") -> dict[str, Any]:
    return {
        "serial": signed.serial,
        "authority": signed.authority,
        "not_before": signed.not_before.isoformat(),
        "not_after": signed.not_after.isoformat(),
        "renew_at": signed.renew_at.isoformat(),
        "ignored": list(signed.ignored),
    }


@app.command("inspect")
def inspect_certificates(
    file: Annotated[Path, typer.Argument(help="Certificates in PEM, or one in DER; - is standard input.")],
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print the contents of the certificates in a file. Makes no call."""
    from keyreeve.cli.certificates.certificate_files import describe, read_certificates

    documents = [describe(certificate) for certificate in read_certificates(file)]
    text = "\n".join(fields({key: value for key, value in document.items() if value != []}) for document in documents)
    brief = "\n".join(document["serial"] for document in documents)
    Printer(output, quiet=quiet).answer(documents, text, brief=brief)


@app.command("verify")
def verify_certificate(
    file: Annotated[Path, typer.Argument(help="Certificate and chain, leaf first.")],
    *,
    name: Annotated[
        str | None, typer.Option("--for", help="DNS name, IP address or SPIFFE ID that the certificate must have.")
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
    text = f"{printer.palette.green}✔{printer.palette.plain} good" + (f" for {name}" if name else " as a client")
    text += f" until {until(presented[0].not_valid_after_utc, datetime.now(UTC))}\n"
    text += "  path: " + " <- ".join(path)
    printer.answer(result, text)


@app.command("list")
def list_certificates(
    *,
    authority: Annotated[str | None, typer.Option("--authority", help="Only those signed by this CA.")] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="Only those issued under this profile.")
    ] = None,
    identity: Annotated[str | None, typer.Option("--identity", help="Only those of this identity.")] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    expires_before: Annotated[
        str | None,
        typer.Option("--expires-before", help="Only those that expire before a time, or within a duration such as 7d."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most this many.")] = 100,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List certificates of the ledger by serial number."""
    from itertools import islice

    from keyreeve.values import CertificateState

    before = read_instant(expires_before)
    with control_plane(context) as client:
        found = client.certificates.list(
            authority=authority,
            profile=profile,
            identity=identity,
            state=None if state is None else CertificateState(state),
            expires_before=before,
        )
        rows = [_row(certificate) for certificate in islice(found, limit)]
    columns = ("serial", "identity", "profile", "state", "not_after")
    Printer(output, quiet=quiet).rows(columns, rows, brief="serial")


def _row(certificate: "Certificate") -> dict[str, Any]:
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


@app.command("renew")
def renew_certificate(
    place: Annotated[
        Path | None,
        typer.Argument(help="Directory of `cert issue`, or a certificate file. Default: your own certificate."),
    ] = None,
    *,
    key: Annotated[Path | None, typer.Option("--key", help="Private key of a certificate FILE.")] = None,
    device_key: Annotated[
        Path | None,
        typer.Option(
            "--device-key",
            metavar="FILE",
            help="Key file of a security key (ssh-keygen -t ed25519-sk) in your record; it replaces an invitation.",
        ),
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Renew a certificate with a new key, in the same files.

    Names and profile stay the same.

    After an interruption it can be repeated: the new key is stored before the call.
    """
    from keyreeve.cli.certificates.device_touch import touch_of
    from keyreeve.cli.certificates.renewing import Pair, complete_renewal, locked, renew_pair

    pair = Pair.find(place, key, load_context(context))
    printer = Printer(output, quiet=quiet)
    good = f"{printer.palette.green}✔{printer.palette.plain}"
    files = {"key": str(pair.key), "file": str(pair.certificate)}
    with locked(pair):
        if complete_renewal(pair):
            printer.answer(files, f"{good} {shown(pair.certificate)}: an interrupted renewal has been completed")
            return
        with control_plane(context, renew=not pair.is_own) as client:
            signed = renew_pair(client, pair, None if device_key is None else touch_of(device_key))
    printer.answer(
        _signed(signed) | files,
        f"{good} {shown(pair.certificate)}: serial {signed.serial}, until {until(signed.not_after, datetime.now(UTC))}",
        brief=str(pair.certificate),
    )
