"""`tarantella object delete`."""

from keyreeve_gateway.grammar.model import Difference, Source, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.objects.attributes import NAME


async def delete_object(call: Invocation) -> None:
    """Delete an object."""
    await call.services.credentials.objects.delete(await call.array(), call.parsed.text("--name"))


VERB = Verb(
    "delete",
    "Deletes an object.",
    delete_object,
    (NAME,),
    batch=True,
    rpcs=("MemberService/GetMember", "ObjectService/DeleteObject"),
    differences=(Difference("Its entries in the password cache remain.", "`passcache delete` deletes them."),),
    source=Source.UNDOCUMENTED,
)
