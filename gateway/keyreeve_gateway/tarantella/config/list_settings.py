"""`tarantella config list`."""

from keyreeve_gateway.grammar.model import Difference, Option, Settings, Verb
from keyreeve_gateway.invocation import Invocation
from keyreeve_gateway.tarantella.config.attributes import LAUNCH, MEMBERSHIP, NAMES, check_names


async def list_settings(call: Invocation) -> None:
    """List attributes with their present values, all unless some are named."""
    names = tuple(name for name, _ in call.parsed.settings) or NAMES
    check_names(names)
    server, known = call.parsed.text("--server", call.local_server), dict[str, str]()
    owned = [name for name in names if name in MEMBERSHIP]
    if owned:
        found = await call.services.membership.settings.get(server, names=owned)
        known |= {one.name: one.value for one in found}
    if any(name in LAUNCH for name in names):
        view = await call.services.credentials.launch_settings.get(await call.array(server), server)
        for name, (field, form) in LAUNCH.items():
            known[name] = form.write(getattr(view.effective, field))
    for name in names:
        call.console.say(f"{name}: {known[name]}")


VERB = Verb(
    "list",
    "Lists attributes of the array and of a server, with their present values.",
    list_settings,
    (Settings(list_only=True), Option("--server", "serv", "Peer DNS name of the server; default: this server.")),
    batch=True,
    rpcs=("MemberService/GetMember", "SettingService/GetSettings", "LaunchSettingService/GetLaunchSettings"),
    differences=(
        Difference("One attribute per line, `name: value`.", "No manual shows the layout."),
        Difference(
            "`--server` takes a peer DNS name; the original takes an IP address, too.",
            "Members are known by their names, which their certificates prove.",
        ),
    ),
)
