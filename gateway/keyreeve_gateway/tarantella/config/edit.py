"""`tarantella config edit`."""

from typing import Any

from keyreeve_gateway.grammar.model import Difference, OneOf, Option, Settings, Verb
from keyreeve_gateway.invocation import CommandFailed, Invocation
from keyreeve_gateway.tarantella.config.attributes import LAUNCH, MEMBERSHIP, NEW_KEY, check_names


async def edit_settings(call: Invocation) -> None:
    """Change attributes; those of the membership service first, since it may refuse them."""
    settings = dict(call.parsed.settings)
    check_names(tuple(settings))
    launch: dict[str, Any] = {}
    owned: dict[str, str] = {}
    for name, text in settings.items():
        if name in LAUNCH:
            field, form = LAUNCH[name]
            launch[field] = form.read(name, text)
        else:
            owned[name] = MEMBERSHIP[name].write(MEMBERSHIP[name].read(name, text))
    servers = call.parsed.many("--server")
    if servers and NEW_KEY in settings:
        raise CommandFailed(f"{NEW_KEY} belongs to the array: leave --server out; nothing was changed")
    targets = [(await call.array(one), one) for one in servers or ("",)] if launch else []
    if owned:
        await call.services.membership.settings.update(
            servers or [call.local_server], owned, whole_array=call.parsed.given("--array")
        )
    if launch:
        from keyreeve.launch_values import DialogDisplay, ExpiredPasswordAction, LaunchSettings

        if "show_dialog" in launch:
            launch["show_dialog"] = DialogDisplay(launch["show_dialog"])
        if "expired_password" in launch:
            launch["expired_password"] = ExpiredPasswordAction(launch["expired_password"])
        for array, server in targets:
            await call.services.credentials.launch_settings.update(array, LaunchSettings(**launch), server)


VERB = Verb(
    "edit",
    "Changes attributes of the array or of servers.",
    edit_settings,
    (
        Settings(),
        OneOf(
            (
                Option("--array", help="Server-specific attributes change on every server of the array."),
                Option("--server", "serv", "Servers whose attributes change; default: this server.", many=True),
            )
        ),
    ),
    batch=True,
    rpcs=(
        "MemberService/GetMember",
        "SettingService/UpdateSettings",
        "LaunchSettingService/UpdateLaunchSettings",
    ),
    differences=(
        Difference(
            "Attributes that neither the membership service nor the vault owns are refused by name, with their owner.",
            "A value that nothing reads would be a lie.",
        ),
        Difference(
            "`--security-newkeyonrestart 1` is refused while the settings of the credentials service have no "
            "`vault.membership_address`.",
            "Restarts are known from the membership service; without its address the attribute would have no effect.",
        ),
        Difference(
            "With `--server`, an attribute that begins with `--launch` is set for these servers, where it lies over that of "
            "the array; otherwise it is set for the array.",
            "The vault has launch settings of both; those of the original are of the array only.",
        ),
        Difference(
            "Attributes of both services in one command, and `--launch` attributes of several servers, are changed one after "
            "the other.",
            "They have no common transaction.",
        ),
    ),
)
