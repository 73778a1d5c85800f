"""`pki pkcs12-to-ssh`."""

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING

from keyreeve.errors import KeyFileNotFound, KeyFileUnreadable
from keyreeve_gateway.grammar.model import Argument, Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.spaces import SILENT, passphrase_of, space_of

if TYPE_CHECKING:
    from keyreeve._async.key_files import KeyFileClient
    from keyreeve.file_values import FileSpace
    from keyreeve.plaintext import Plaintext


async def convert_to_ssh(call: Invocation) -> None:
    """Replace an uploaded PKCS#12 by the SSH public key of its certificate."""
    user, space, files = call.parsed.argument(0), await space_of(call), call.services.credentials.files
    name, work = f"{user}.pub", work_basename(user)
    passphrase = await passphrase_of(call, call.settings.pkcs12_prompt.replace("{file}", name))
    await _discard(files, space, work)  # a conversion that was cut off has left them
    await files.convert_pkcs12(space, name, passphrase, work)
    try:
        certificate = await files.get(space, f"{work}.crt")
        await files.put(space, name, _ssh_key(certificate.contents), replace=True)
    finally:
        await _discard(files, space, work)
    call.console.say(f"Replaced {name} by an SSH public key")


def work_basename(user: str) -> str:
    """Basename of the files into which a PKCS#12 is taken apart in the vault: a user name may be none."""
    return f"pkcs12-to-ssh-{hashlib.sha256(user.encode()).hexdigest()[:16]}"


async def _discard(files: "KeyFileClient", space: "FileSpace", work: str) -> None:
    for ending in (".key", ".crt"):
        with suppress(KeyFileNotFound):
            await files.delete(space, work + ending)


def _ssh_key(certificate: "Plaintext") -> "Plaintext":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_pem_x509_certificate

    from keyreeve.plaintext import Plaintext

    key = load_pem_x509_certificate(certificate.reveal()).public_key()
    try:
        return Plaintext(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b"\n")
    except (UnsupportedAlgorithm, ValueError):
        raise KeyFileUnreadable("SSH has no keys of this type") from None


VERB = Verb(
    "pkcs12-to-ssh",
    "Replaces a PKCS#12 that was uploaded as <username>.pub by an SSH public key.",
    convert_to_ssh,
    (Argument("username", "Name of the file without .pub."),),
    rpcs=(
        "MemberService/GetMember",
        "KeyFileService/ConvertPkcs12",
        "KeyFileService/GetFile",
        "KeyFileService/PutFile",
        "KeyFileService/DeleteFile",
    ),
    differences=(
        Difference(
            "The PKCS#12 is kept under another name, and its private key never leaves the vault.",
            "In the original, everything but the public key is lost.",
        ),
        Difference("The prompt is a setting.", SILENT),
        Difference(
            "While it runs, the server has the key and the certificate as `pkcs12-to-ssh-....key` and `.crt`. If it is cut "
            "off, the next run for the same user deletes them.",
            "The vault takes the PKCS#12 apart into files.",
        ),
    ),
)
