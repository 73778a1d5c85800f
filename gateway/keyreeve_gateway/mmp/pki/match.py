"""`pki match`."""

from keyreeve_gateway.grammar.model import Argument, Difference, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.mmp.pki.spaces import SILENT, space_of


async def match_files(call: Invocation) -> None:
    """Say whether a key and a certificate match."""
    key, certificate = call.parsed.arguments
    if not await call.services.credentials.files.match(await space_of(call), key, certificate):
        raise CommandFailed("Key and certificate do not match")
    call.console.say("Key and certificate match")


VERB = Verb(
    "match",
    "Checks that a private key and a certificate match.",
    match_files,
    (Argument("keyfile", "Name of the key."), Argument("certificate file", "Name of the certificate.")),
    rpcs=("MemberService/GetMember", "KeyFileService/MatchFiles"),
    differences=(Difference("The exit code says whether they match.", SILENT),),
)
