"""`pki selfsigned`."""

from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.attributes import ATTRIBUTES, BASENAME, attributes_of, check_attributes
from keyreeve_gateway.mmp.pki.csr import DOTS
from keyreeve_gateway.mmp.pki.spaces import KEPT, SILENT, make_confirmed, space_of

if TYPE_CHECKING:
    from keyreeve.file_values import MadeFiles


async def create_self_signed(call: Invocation) -> None:
    """Make a key and a certificate that is signed by it."""
    basename, *rest = call.parsed.arguments
    attributes, space = attributes_of(tuple(rest)), await space_of(call)

    async def make(force: bool) -> "MadeFiles":
        return await call.services.credentials.files.create_self_signed(
            space, basename, attributes, replace=True, force=force
        )

    await make_confirmed(call, make, basename)
    for line in (DOTS, DOTS, f"Created key file {basename}.key and certificate {basename}.crt"):
        call.console.say(line)


VERB = Verb(
    "selfsigned",
    "Makes a private key and a self-signed certificate, which may serve and sign requests.",
    create_self_signed,
    (BASENAME, *ATTRIBUTES),
    check_attributes,
    rpcs=("MemberService/GetMember", "KeyFileService/CreateSelfSigned"),
    differences=(
        Difference("The layout is that of `pki csr`.", SILENT),
        Difference("A key that a service uses is replaced only after a capital `Y`.", KEPT),
    ),
)
