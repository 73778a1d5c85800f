"""`tarantella array clean`."""

from keyreeve_gateway.grammar.model import Difference, OneOf, Option, Source, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.tarantella.array.waiting import WAITS, WHY_WAIT, wait_for


async def clean_server(call: Invocation) -> None:
    """Return this server to an array of one."""
    if not call.parsed.given("--quiet"):
        answer = await call.console.ask(call.settings.clean_prompt.replace("{server}", call.local_server))
        if answer is None or answer.strip().lower() != "yes":
            raise CommandFailed("nobody has said yes; nothing was changed")
    only = not call.parsed.given("--standalone")
    await wait_for(call, await call.services.membership.arrays.clean(call.local_server, only_if_disagreeing=only))


VERB = Verb(
    "clean",
    "Returns this server to an array of one, after it has been repaired or restored.",
    clean_server,
    (
        OneOf(
            (
                Option("--standalone", help="Whatever the others report.", source=Source.UNDOCUMENTED),
                Option(
                    "--contactmembers",
                    help="Only if a member's report disagrees with the roll; the default.",
                    source=Source.UNDOCUMENTED,
                ),
            )
        ),
        Option("--quiet", help="Does not ask.", source=Source.UNDOCUMENTED),
    ),
    rpcs=("ArrayService/CleanMember", "OperationService/WatchOperation"),
    differences=(
        Difference("It asks before it changes anything; the wording is a setting.", "No manual shows the question."),
        Difference(WAITS, WHY_WAIT),
    ),
)
