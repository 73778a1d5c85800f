"""`pki verify`."""

from keyreeve_gateway.grammar.model import Argument, Difference, Source, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.mmp.pki.spaces import SILENT, space_of


async def verify_certificate(call: Invocation) -> None:
    """Say whether a bundle asserts a certificate."""
    certificate, bundle = call.parsed.arguments[:2]
    found = await call.services.credentials.files.verify(
        await space_of(call), certificate, bundle, call.parsed.argument(2)
    )
    for warning in found.warnings:
        call.console.warn(f"WARNING: {warning}")
    if not found.verified:
        raise CommandFailed(f"{certificate}: {'; '.join(found.problems)}")
    call.console.say(f"{certificate}: OK")


VERB = Verb(
    "verify",
    "Checks that a certificate is signed by a CA, and that a bundle asserts it.",
    verify_certificate,
    (
        Argument("cert", "Name of the certificate."),
        Argument("certificate bundle/Root CA", "Name of the bundle, or of the root."),
        Argument("Root CA", "Name of a further file with the root.", required=False, source=Source.UNDOCUMENTED),
    ),
    rpcs=("MemberService/GetMember", "KeyFileService/VerifyFile"),
    differences=(
        Difference("The exit code says whether it is, and a failure says why it is not.", SILENT),
        Difference("The order and the end of a bundle are warned about.", "The manual requires them for full chains."),
    ),
)
