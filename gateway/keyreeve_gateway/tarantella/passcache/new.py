"""`tarantella passcache new`."""

from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.passcache.owners import (
    REQUIRED_OWNER,
    REQUIRED_RESOURCE,
    RESPASS,
    RESUSER,
    owner_of,
    resource_of,
)
from keyreeve_gateway.tarantella.passcache.passwords import password_of


async def create_entry(call: Invocation) -> None:
    """Create an entry; it prints nothing."""
    secret = await password_of(call)
    await call.services.credentials.entries.create(
        await call.array(), owner_of(call.parsed), resource_of(call.parsed), call.parsed.text("--resuser"), secret
    )


VERB = Verb(
    "new",
    "Creates an entry in the password cache.",
    create_entry,
    (REQUIRED_OWNER, REQUIRED_RESOURCE, RESUSER.require(), RESPASS),
    batch=True,
    rpcs=("MemberService/GetMember", "EntryService/CreateEntry"),
    differences=(
        Difference(
            "An entry that exists is an error.", "No manual says what happens; replacing it would lose a password."
        ),
        Difference(
            "A batch is checked whole before its first line is carried out; a line that fails does not stop the others.",
            "No manual says what happens; a batch that is corrected can be run again.",
        ),
    ),
)
