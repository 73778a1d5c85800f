"""`tarantella object list_attributes`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keyreeve_gateway.grammar.model import Difference, Source, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.objects.attributes import LISTED, NAME

if TYPE_CHECKING:
    from keyreeve.launch_values import LaunchObject


async def list_attributes(call: Invocation) -> None:
    """List the attributes of an object."""
    found = await call.services.credentials.objects.get(await call.array(), call.parsed.text("--name"))
    for line in as_text(found):
        call.console.say(line)


def as_text(found: "LaunchObject") -> Iterator[str]:
    """One attribute per line, as far as the kind of object has it."""
    yield f"name: {found.name}"
    yield f"type: {found.application_kind or found.kind}"
    windows = found.application_kind == "windows"
    if found.kind != "application" or windows:
        yield f"ntdomain: {found.domain}".rstrip()
    if found.kind.endswith("application-server"):
        yield f"auth: {LISTED[found.password_cache_usage]}"
    if windows:
        yield f"enhancednetworksecurity: {int(found.enhanced_network_security)}"


VERB = Verb(
    "list_attributes",
    "Lists the attributes of an object.",
    list_attributes,
    (NAME,),
    batch=True,
    rpcs=("MemberService/GetMember", "ObjectService/GetObject"),
    differences=(Difference("One attribute per line, `name: value`.", "No manual shows the layout."),),
    source=Source.UNDOCUMENTED,
)
