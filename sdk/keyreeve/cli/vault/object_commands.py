"""`keyreeve vault object ...`: what resolution reads; `keyreeve vault settings`: launch settings."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyreeve.cli.calling import control_plane
from keyreeve.cli.options import ContextFile, Output, Quiet
from keyreeve.cli.printing import Format, Printer, fields, moment
from keyreeve.cli.vault.entry_commands import ArrayName
from keyreeve.cli.vault.places import note_unknown

if TYPE_CHECKING:
    from keyreeve.launch_values import LaunchObject, LaunchSettings, LaunchSettingsView

app = typer.Typer(help="Application servers, applications and user profiles.", no_args_is_help=True)

ObjectName = Annotated[str, typer.Argument(metavar="NAME", help="TFN name, such as o=Indigo/cn=prague.")]
Domain = Annotated[str | None, typer.Option("--domain", help="Windows domain; empty: unset.", metavar="DOMAIN")]
Usage = Annotated[
    str | None,
    typer.Option("--password-cache-usage", help="Try the login password on this server: try, never or default."),
]
Security = Annotated[
    bool | None,
    typer.Option(
        "--enhanced-network-security/--no-enhanced-network-security",
        help="Network-level authentication of a Windows application.",
    ),
]
Runs = Annotated[str | None, typer.Option("--runs-on", help="Of an application: windows, x or character.")]
_COLUMNS = ("name", "kind", "domain", "runs_on", "password_cache_usage", "version")


def add_to(vault: typer.Typer) -> None:
    """Add `object` and `settings` to `keyreeve vault`."""
    vault.add_typer(app, name="object")
    vault.command("settings")(launch_settings)


@app.command("put")
def put_object(
    name: ObjectName,
    array: ArrayName,
    kind: Annotated[
        str,
        typer.Option("--kind", help="application-server, dynamic-application-server, application or user-profile."),
    ],
    *,
    domain: Domain = None,
    runs_on: Runs = None,
    password_cache_usage: Usage = None,
    enhanced_network_security: Security = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Create an object."""
    from keyreeve.launch_values import ApplicationKind, ObjectKind, PasswordCacheUsage

    chosen = _one_of(ObjectKind, kind, "--kind")
    if (chosen is ObjectKind.APPLICATION) != (runs_on is not None):
        raise typer.BadParameter("required for applications, and for no other kind", param_hint="--runs-on")
    with control_plane(context) as client:
        made = client.credentials.objects.create(
            array,
            name,
            chosen,
            domain=domain or "",
            application_kind=None if runs_on is None else _one_of(ApplicationKind, runs_on, "--runs-on"),
            password_cache_usage=_one_of(
                PasswordCacheUsage, password_cache_usage or "default", "--password-cache-usage"
            ),
            enhanced_network_security=enhanced_network_security,
        )
        note_unknown(client, array)
    _show(made, output, quiet=quiet)


@app.command("get")
def get_object(
    name: ObjectName, array: ArrayName, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Print an object."""
    with control_plane(context) as client:
        _show(client.credentials.objects.get(array, name), output, quiet=quiet)


@app.command("list")
def list_objects(
    array: ArrayName,
    *,
    kind: Annotated[str | None, typer.Option("--kind", help="Only of this kind.")] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """List objects in order of their names."""
    from keyreeve.launch_values import ObjectKind

    chosen = None if kind is None else _one_of(ObjectKind, kind, "--kind")
    with control_plane(context) as client:
        rows = [_row(found) for found in client.credentials.objects.list(array, kind=chosen)]
    Printer(output, quiet=quiet).rows(_COLUMNS, rows, brief="name")


@app.command("edit")
def edit_object(
    name: ObjectName,
    array: ArrayName,
    *,
    domain: Domain = None,
    password_cache_usage: Usage = None,
    runs_on: Runs = None,
    enhanced_network_security: Security = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Change attributes of an object; it takes effect at the next launch."""
    from keyreeve.launch_values import ApplicationKind, PasswordCacheUsage

    if (domain, password_cache_usage, runs_on, enhanced_network_security) == (None,) * 4:
        raise typer.BadParameter("nothing to change: give an attribute")
    usage = password_cache_usage
    with control_plane(context) as client:
        changed = client.credentials.objects.update(
            array,
            name,
            domain=domain,
            password_cache_usage=None
            if usage is None
            else _one_of(PasswordCacheUsage, usage, "--password-cache-usage"),
            application_kind=None if runs_on is None else _one_of(ApplicationKind, runs_on, "--runs-on"),
            enhanced_network_security=enhanced_network_security,
        )
    _show(changed, output, quiet=quiet)


@app.command("delete")
def delete_object(
    name: ObjectName, array: ArrayName, context: ContextFile = None, output: Output = Format.TABLE, quiet: Quiet = False
) -> None:
    """Delete an object; entries for it remain."""
    with control_plane(context) as client:
        client.credentials.objects.delete(array, name)
    Printer(output, quiet=quiet).answer({"deleted": name}, f"{name} has been deleted", brief=name)


def launch_settings(
    array: ArrayName,
    *,
    server: Annotated[str, typer.Option("--server", help="Peer DNS name of a server; none: the array.")] = "",
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a setting; repeatable.")
    ] = None,
    removed: Annotated[
        list[str] | None, typer.Option("--unset", metavar="NAME", help="Remove a setting; repeatable.")
    ] = None,
    context: ContextFile = None,
    output: Output = Format.TABLE,
    quiet: Quiet = False,
) -> None:
    """Print the launch settings of an array or a server, or change them at once."""
    wanted = _settings(changes or [])
    with control_plane(context) as client:
        client_settings = client.credentials.launch_settings
        if changes or removed:
            view = client_settings.update(array, wanted, server, remove=removed or ())
        else:
            view = client_settings.get(array, server)
    rows = _setting_rows(view)
    Printer(output, quiet=quiet).rows(("setting", "value", "set_by"), rows, brief="setting")


def _settings(changes: list[str]) -> "LaunchSettings":
    """Parse `name=value` texts."""
    from keyreeve.launch_values import DialogDisplay, ExpiredPasswordAction, LaunchSettings

    given: dict[str, Any] = {}
    for text in changes:
        name, _, value = text.partition("=")
        if name not in asdict(LaunchSettings()):
            raise typer.BadParameter(f"{name!r} is not a launch setting", param_hint="--set")
        if name == "show_dialog":
            given[name] = _one_of(DialogDisplay, value, "--set")
        elif name == "expired_password":
            given[name] = _one_of(ExpiredPasswordAction, value, "--set")
        elif name == "dialog_delay_seconds":
            given[name] = _number(value)
        else:
            given[name] = _truth(value)
    return LaunchSettings(**given)


def _number(text: str) -> int:
    if not text.isdigit():
        raise typer.BadParameter(f"{text!r} is not a number", param_hint="--set")
    return int(text)


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text not in known:
        raise typer.BadParameter(f"{text!r} is neither true nor false", param_hint="--set")
    return known[text]


def _setting_rows(view: "LaunchSettingsView") -> list[dict[str, Any]]:
    rows = []
    for name, value in asdict(view.effective).items():
        origin = "server" if name in view.from_server else "array" if name in view.from_array else "default"
        shown = str(value).lower() if isinstance(value, bool) else value
        rows.append({"setting": name, "value": shown, "set_by": origin})
    return rows


def _one_of(kind: Any, text: str, option: str) -> Any:  # noqa: ANN401 - an enumeration and its value
    if text not in set(kind):
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(kind)}", param_hint=option)
    return kind(text)


def _show(found: "LaunchObject", output: Format, *, quiet: bool) -> None:
    row = _row(found)
    Printer(output, quiet=quiet).answer(row, fields(row), brief=found.name)


def _row(found: "LaunchObject") -> dict[str, Any]:
    return {
        "name": found.name,
        "kind": found.kind.value,
        "domain": found.domain,
        "runs_on": found.application_kind.value if found.application_kind else "",
        "enhanced_network_security": found.enhanced_network_security if found.application_kind == "windows" else None,
        "password_cache_usage": found.password_cache_usage.value,
        "version": found.version,
        "updated_at": moment(found.updated_at),
    }
