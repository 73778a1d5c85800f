"""`pki pkcs12-to-ssh`."""

from typing import TYPE_CHECKING

from keyreeve.errors import KeyFileUnreadable
from keyreeve_gateway.grammar.model import Argument, Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.spaces import passphrase_of, space_of

if TYPE_CHECKING:
    from keyreeve.plaintext import Plaintext

_WORK = "pkcs12-to-ssh-{user}"
"""Basename of the files into which the PKCS#12 is taken apart, in the vault; they are deleted afterwards."""


async def convert_to_ssh(call: Invocation) -> None:
    """Replace an uploaded PKCS#12 by the SSH public key of its certificate."""
    user, space, files = call.parsed.argument(0), await space_of(call), call.services.credentials.files
    name, work = f"{user}.pub", _WORK.format(user=user)
    passphrase = await passphrase_of(call, f"Enter the password of {name}: ")
    made = await files.convert_pkcs12(space, name, passphrase, work)
    try:
        certificate = await files.get(space, f"{work}.crt")
        await files.put(space, name, _ssh_key(certificate.contents), replace=True)
    finally:
        for file in made.files:
            await files.delete(space, file.file)
    call.console.say(f"Replaced {name} by an SSH public key")


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
    ),
)
