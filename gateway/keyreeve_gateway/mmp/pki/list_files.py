"""`pki list`."""

from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.spaces import space_of


async def list_files(call: Invocation) -> None:
    """List the files of this server."""
    found = [file.file async for file in call.services.credentials.files.list(await space_of(call))]
    call.console.say("User supplied certificates and keys:")
    for name in found:
        call.console.say(name)


VERB = Verb(
    "list",
    "Lists the keys, requests, certificates and bundles of this server.",
    list_files,
    rpcs=("MemberService/GetMember", "KeyFileService/ListFiles"),
    differences=(Difference("One file per line.", "The manual shows the heading."),),
)
