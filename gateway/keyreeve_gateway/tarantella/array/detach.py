"""`tarantella array detach`."""

from keyreeve_gateway.grammar.model import Difference, Option, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.array.waiting import WAITS, WHY_WAIT, wait_for


async def detach_server(call: Invocation) -> None:
    """Remove a secondary from its array."""
    await wait_for(call, await call.services.membership.arrays.detach(call.parsed.text("--secondary")))


VERB = Verb(
    "detach",
    "Removes a secondary server from the array.",
    detach_server,
    (Option("--secondary", "serv", "Peer DNS name of the secondary.", required=True),),
    rpcs=("ArrayService/DetachMember", "OperationService/WatchOperation"),
    differences=(
        Difference(
            "The detached server's peer certificates are revoked, and the other members refuse it.",
            "In the original they still lead to the array's CA.",
        ),
        Difference(WAITS, WHY_WAIT),
    ),
)
