"""`keyreeve blocked-key`: keys that no certificate is issued for."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, table
from keyreeve.errors import FileUnusable

if TYPE_CHECKING:
    from keyreeve.values import BlockedKey

app = typer.Typer(help="Block keys for good, list them, and unblock them with a second person.", no_args_is_help=True)

_HASH = re.compile(r"[0-9a-f]{64}\Z")
_LARGEST = 1 << 20

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="Certificate, CSR or public key (PEM file), or the SHA-256 of its SubjectPublicKeyInfo."
    ),
]


@app.command("add")
def block_key(
    key: Key,
    *,
    reason: Annotated[str, typer.Option("--reason", help="Why it is blocked.")],
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Block a key: no certificate is issued for it any more, to anyone.

    Certificates with the key stay: revoke them. A revocation for keyCompromise blocks the key by itself.
    """
    with control_plane(context) as client:
        _show(client.certificates.block_key(_hash_of(key), reason), Printer(output, quiet=quiet))


@app.command("list")
def list_blocked_keys(context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """List the blocked keys, except those of the service's settings."""
    with control_plane(context) as client:
        rows = [_row(key) for key in client.certificates.blocked_keys()]
    columns = ("sha256", "reason", "blocked", "by", "approver")
    brief = "".join(f"{row['sha256']}\n" for row in rows)
    Printer(output, quiet=quiet).answer(rows, table(columns, rows), brief=brief)


@app.command("remove")
def unblock_key(key: Key, *, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False) -> None:
    """Unblock a key.

    It takes two admins: the first one's command approves for an hour, the second one's unblocks.
    """
    with control_plane(context) as client:
        before = client.certificates.unblock_key(_hash_of(key))
    printer = Printer(output, quiet=quiet)
    said = "approved; another admin has to run the same command within an hour" if before.approver else "unblocked"
    printer.answer(_row(before) | {"result": said}, fields(_row(before) | {"result": said}), brief=said)


def _hash_of(text: str) -> bytes:
    """The hash of a key, given as such or as a PEM file. Raises `FileUnusable`."""
    if _HASH.match(text.lower()):
        return bytes.fromhex(text)
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        with Path(text).open("rb") as file:
            data = file.read(_LARGEST)
        if b"-----BEGIN CERTIFICATE-----" in data:
            key: Any = x509.load_pem_x509_certificate(data).public_key()
        elif b"CERTIFICATE REQUEST-----" in data:
            key = x509.load_pem_x509_csr(data).public_key()
        else:
            key = load_pem_public_key(data)
    except (OSError, ValueError) as problem:
        raise FileUnusable(f"{text} holds no certificate, CSR or public key: {problem}") from None
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _show(key: "BlockedKey", printer: Printer) -> None:
    row = _row(key)
    printer.answer(row, fields(row), brief=row["sha256"])


def _row(key: "BlockedKey") -> dict[str, Any]:
    return {
        "sha256": key.name.removeprefix("blockedKeys/"),
        "reason": key.reason,
        "blocked": key.created_at.isoformat(),
        "by": key.creator,
        "approver": key.approver,
    }
