"""`tarantella passcache delete`."""

from keyreeve_gateway.grammar.model import Difference, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.passcache.owners import OWNER, RESOURCE, exact, owner_of, resource_of


async def delete_entries(call: Invocation) -> None:
    """Delete the entries of an owner, of a resource, or of both; it prints nothing."""
    owner, resource = owner_of(call.parsed), resource_of(call.parsed)
    exact(owner, resource)
    await call.services.credentials.entries.delete_all(await call.array(), owner=owner, resource=resource)


VERB = Verb(
    "delete",
    "Deletes entries from the password cache.",
    delete_entries,
    (OWNER, RESOURCE),
    batch=True,
    any_of=("--person", "--anon", "--ldap", "--resource"),
    rpcs=("MemberService/GetMember", "EntryService/DeleteEntries"),
    differences=(
        Difference(
            "Without an owner and a resource it is refused.",
            "No manual says what happens; deleting every entry by leaving out an option is not what is meant.",
        ),
        Difference(
            "Deleting entries that do not exist succeeds.", "No manual says what happens; batches can be run again."
        ),
    ),
)
