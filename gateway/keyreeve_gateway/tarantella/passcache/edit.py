"""`tarantella passcache edit`."""

from keyreeve.errors import EntryNotFound
from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.passcache.owners import (
    REQUIRED_OWNER,
    REQUIRED_RESOURCE,
    RESPASS,
    RESUSER,
    exact,
    owner_of,
    resource_of,
)
from keyreeve_gateway.tarantella.passcache.passwords import password_of


async def edit_entry(call: Invocation) -> None:
    """Replace user name and password of an entry; it prints nothing."""
    owner, resource = owner_of(call.parsed), resource_of(call.parsed)
    exact(owner, resource)
    entries, array = call.services.credentials.entries, await call.array()
    found = entries.list(array, owner=owner, resource=resource, login_only=not resource, page_size=1)
    async for entry in found:
        secret = await password_of(call)
        await entries.update(entry.name, user_name=call.parsed.text("--resuser"), secret=secret, version=entry.version)
        return
    raise EntryNotFound(f"there is no entry of {owner} for {resource or 'the login'}")


VERB = Verb(
    "edit",
    "Changes an entry in the password cache.",
    edit_entry,
    (REQUIRED_OWNER, REQUIRED_RESOURCE, RESUSER.require(), RESPASS),
    batch=True,
    rpcs=("MemberService/GetMember", "EntryService/ListEntries", "EntryService/UpdateEntry"),
    differences=(
        Difference("An entry that does not exist is an error.", "No manual says what happens."),
        Difference("The password is asked for after the entry has been found.", "Nobody types a password in vain."),
    ),
)
