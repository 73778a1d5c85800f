"""`tarantella object edit`."""

from keyreeve_gateway.grammar.model import Source, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.objects.attributes import AUTH, DOMAIN, NAME, NETWORK, UNREAD, attributes_of


async def edit_object(call: Invocation) -> None:
    """Change attributes of an object."""
    await call.services.credentials.objects.update(
        await call.array(), call.parsed.text("--name"), **attributes_of(call.parsed)
    )


VERB = Verb(
    "edit",
    "Changes attributes of an object.",
    edit_object,
    (NAME, DOMAIN, AUTH, NETWORK),
    batch=True,
    any_of=("--ntdomain", "--auth", "--enhancednetworksecurity"),
    rpcs=("MemberService/GetMember", "ObjectService/UpdateObject"),
    differences=(UNREAD,),
    source=Source.UNDOCUMENTED,
)
