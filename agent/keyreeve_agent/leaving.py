"""Giving up a member's identity."""

from contextlib import suppress

from keyreeve import aio
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.errors import FailedPrecondition, MemberNotFound
from keyreeve.keys import load_certificates
from keyreeve.values import CrlReason, MemberState
from keyreeve_agent.app import context_of, identity_of
from keyreeve_agent.settings import AgentSettings


async def leave_array(settings: AgentSettings) -> None:
    """Remove a server that stands alone from the roll, and revoke its control certificate. Raises `keyreeve.errors`.

    A member of an array with others is detached first, by an operator or by the primary: they must refuse it.
    """
    from cryptography import x509

    identity = identity_of(settings)
    files = EnrolleeFiles(settings.control)
    context = context_of(settings)
    leaf = x509.load_der_x509_certificate(load_certificates(files.certificate)[0])
    async with aio.Client(context) as client:
        with suppress(MemberNotFound):
            member = await client.membership.members.get(identity.path[-1])
            if member.state is not MemberState.STANDALONE:
                raise FailedPrecondition(f"{identity.path[-1]} is a {member.state} of {member.array}: detach it first")
            await client.membership.members.remove(identity.path[-1])
        await client.certificates.revoke(f"{leaf.serial_number:032x}", CrlReason.CESSATION_OF_OPERATION)
