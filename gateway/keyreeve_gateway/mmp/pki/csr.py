"""`pki csr`."""

from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.mmp.pki.attributes import ATTRIBUTES, BASENAME, attributes_of, check_attributes
from keyreeve_gateway.mmp.pki.spaces import KEPT, make_confirmed, space_of

if TYPE_CHECKING:
    from keyreeve.file_values import MadeFiles

DOTS = "." * 64


async def create_request(call: Invocation) -> None:
    """Make a key and a certificate signing request."""
    basename, *rest = call.parsed.arguments
    attributes, space = attributes_of(tuple(rest)), await space_of(call)

    async def make(force: bool) -> "MadeFiles":
        return await call.services.credentials.files.create_request(
            space, basename, attributes, replace=True, force=force
        )

    await make_confirmed(call, make, basename)
    for line in (
        DOTS,
        DOTS,
        f"Created key file {basename}.key and CSR {basename}.csr",
        f"CSR file {basename}.csr ready for download via SFTP",
    ):
        call.console.say(line)


VERB = Verb(
    "csr",
    "Makes a private key and a certificate signing request.",
    create_request,
    (BASENAME, *ATTRIBUTES),
    check_attributes,
    rpcs=("MemberService/GetMember", "KeyFileService/CreateRequest"),
    differences=(
        Difference(
            "A key that a service uses is replaced only after a capital `Y`; the wording of the question is a setting.",
            "The original replaces it without a question, which breaks the service at once. Which service uses what is "
            "known as far as `keyreeve vault file assign` has recorded it.",
        ),
        Difference(KEPT, "The original overwrites it."),
        Difference(
            "A subjectAltName without the CN, and a request without one, are warned about on standard error.",
            "The manual requires the CN among the names; the original accepts such requests.",
        ),
    ),
)
