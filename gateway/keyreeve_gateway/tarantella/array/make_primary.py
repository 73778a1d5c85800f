"""`tarantella array make_primary`."""

from keyreeve_gateway.grammar.model import Difference, Option, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.array.waiting import WAITS, WHY_WAIT, wait_for


async def make_primary(call: Invocation) -> None:
    """Make a secondary the primary of its array."""
    await wait_for(call, await call.services.membership.arrays.promote(call.parsed.text("--secondary")))


VERB = Verb(
    "make_primary",
    "Makes a secondary server the primary of its array.",
    make_primary,
    (Option("--secondary", "serv", "Peer DNS name of the secondary.", required=True),),
    rpcs=("ArrayService/PromotePrimary", "OperationService/WatchOperation"),
    differences=(
        Difference(
            "The new CA issues nothing until every member has proved that it trusts it, and the old one is trusted until "
            "every member has a new certificate.",
            "In the original, members that miss the change are cut off.",
        ),
        Difference(WAITS, WHY_WAIT),
    ),
)
