"""`pki inspect`."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Argument, Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.spaces import space_of

if TYPE_CHECKING:
    from keyreeve.file_values import FileElement, Inspection


async def inspect_file(call: Invocation) -> None:
    """Tell what a file contains."""
    found = await call.services.credentials.files.inspect(await space_of(call), call.parsed.argument(0))
    for line in as_text(found):
        call.console.say(line)
    for warning in found.warnings:
        call.console.warn(f"WARNING: {warning}")


def as_text(found: "Inspection") -> Iterator[str]:
    """Lines on each element of a file."""
    yield "Checking user configured certificates and keys...found"
    known = [element for element in found.elements if element.kind != "unknown"]
    if not known:
        yield "File contains nothing that is known"
    for element in known:
        article = "an" if element.encoding[:1] in "AEIOU" else "a"
        yield f"File contains {article} {element.encoding} encoded {element.kind}"
        yield from _details(element)


def _details(element: "FileElement") -> Iterator[str]:
    if element.serial:
        yield f"    Serial Number: {element.serial}"
    if element.issuer:
        yield f"    Issuer: {element.issuer}"
    if element.not_before is not None and element.not_after is not None:
        yield "    Validity"
        yield f"        Not Before: {_openssl(element.not_before)}"
        yield f"        Not After : {_openssl(element.not_after)}"
    if element.subject:
        yield f"    Subject: {element.subject}"
    if element.key_type:
        yield f"    Public Key: {element.key_type}"
    if element.names:
        yield f"    X509v3 Subject Alternative Name: {', '.join(element.names)}"
    if element.is_ca:
        yield "    X509v3 Basic Constraints: CA:TRUE"
    if element.sha256:
        yield f"    SHA-256 Fingerprint: {element.sha256.hex(':').upper()}"


def _openssl(when: datetime) -> str:
    """A time as openssl writes it: `May  4 12:00:00 2031 GMT`."""
    return f"{when:%b} {when.day:2} {when:%H:%M:%S} {when.year} GMT"


VERB = Verb(
    "inspect",
    "Shows whether a file is a key, a certificate, a request or a bundle, and its details.",
    inspect_file,
    (Argument("filename", "Name of the file."),),
    rpcs=("MemberService/GetMember", "KeyFileService/InspectFile"),
    differences=(Difference("The details are a selection of those that openssl shows.", "No manual shows them."),),
)
