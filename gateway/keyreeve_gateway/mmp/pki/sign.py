"""`pki sign`."""

from keyreeve_gateway.grammar.model import Argument, Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.spaces import KEPT, SILENT, space_of


async def sign_request(call: Invocation) -> None:
    """Sign a request with the key and certificate of a CA of the same server."""
    basename, ca_basename = call.parsed.arguments
    made = await call.services.credentials.files.sign_request(await space_of(call), basename, ca_basename, replace=True)
    for kept in made.kept_files:
        call.console.warn(f"WARNING: a replaced file is kept as {kept.file}")
    call.console.say(f"Created certificate {basename}.crt")


VERB = Verb(
    "sign",
    "Signs a request with the built-in CA.",
    sign_request,
    (
        Argument("csr/cert basename", "Name of the request without .csr; the certificate has the same name."),
        Argument("CA key/cert basename", "Name of the CA's key and certificate without an extension."),
    ),
    rpcs=("MemberService/GetMember", "KeyFileService/SignRequest"),
    differences=(
        Difference("It prints one line.", SILENT),
        Difference("An existing certificate of the name is replaced.", KEPT),
    ),
)
