"""`python -m keyreeve_ca COMMAND`: the service, its processes, and what an operator does beside it.

Everything but `run`, `fork_server`, `coordinator` and `worker` prints one JSON document on standard output.
Exit codes: 0 done, 1 refused, 3
the local socket does not answer, 78 the settings or the database do not allow a start.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keyreeve_ca import host_tuning as machine
from keyreeve_chassis.processes.manager import EX_CONFIG

if TYPE_CHECKING:
    from keyreeve_chassis.processes.fork_client import ForkServer, ForkServers

EX_UNREACHABLE = 3
WORKERS_OWN = "listen."
"""Settings that begin so are the workers' alone: workers that are replaced one by one may take them up."""


def main(given: Sequence[str] | None = None) -> int:
    """Run one command: that of the command line unless another is given."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_ca", description="The CA service of Keyreeve.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("run", "run the service: a coordinator and the workers, restarted when they die"),
        ("coordinator", "one of the processes that `run` starts: database, local socket, background work"),
        ("worker", "one of the processes that `run` starts: it serves the RPCs"),
        ("fork_server", "one of the processes that `run` starts: the others are forked from it"),
        ("migrate", "bring the database to this release's schema, and end"),
        ("settings", "print the effective settings and where each came from"),
        ("check", "print what is wrong with this installation, each finding with its fix"),
        ("recover", "replace what has expired, over the local socket, and print what was done"),
        ("first-operator", "certify the key in the CSR on standard input as an admin, over the local socket"),
        ("service-token", "make an enrollment token for an instance of another service, over the local socket"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--config", type=Path, help="YAML file of settings (docs/settings.md)")
        command.add_argument("--secrets", type=Path, help="directory of secret files, one for each setting")
        _add_arguments(name, command)
    arguments = parser.parse_args(given)
    os.umask(0o077)  # whatever this service writes is nobody else's business
    if arguments.command == "run":
        return _run(arguments)
    if arguments.command == "fork_server":
        from keyreeve_chassis.processes import fork_server

        return fork_server.serve(main)
    if arguments.command == "worker" and arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})  # before anything starts threads, which inherit it
    # Only here: the parent of the processes must not import what they import.
    from keyreeve_ca import app
    from keyreeve_chassis.processes import lifecycle as processes
    from keyreeve_chassis.settings.loading import SettingsRefused

    try:
        loaded = app.load_settings(arguments.config, arguments.secrets, os.environ)
    except SettingsRefused as refused:
        return _fail(EX_CONFIG, "the settings cannot be used", *refused.problems)
    settings = loaded.settings
    if arguments.command == "worker":
        from keyreeve_ca import worker  # and no more than that: each worker would have the rest in memory

        return processes.main(lambda: worker.worker(settings, arguments.index, arguments.gather), settings)
    from keyreeve_ca import coordinator
    from keyreeve_ca import local_admin as tools

    match arguments.command:
        case "coordinator":
            code = processes.main(lambda: coordinator.coordinator(settings), settings)
        case "migrate":
            code = processes.main(lambda: coordinator.migrate(settings), settings)
        case "settings":
            code = _print(tools.settings_rows(loaded))
        case "check":
            code = _print(asyncio.run(tools.check(settings)))
        case _:
            code = _over_socket(_local_request(arguments, settings.coordinator_socket))
    return code


def _local_request(arguments: argparse.Namespace, socket: Path) -> Coroutine[Any, Any, object]:
    """What a command asks the running service for over its local socket."""
    from keyreeve_ca import local_admin as tools

    match arguments.command:
        case "recover":
            return tools.recover(socket, arguments.operator, arguments.address)
        case "service-token":
            return tools.service_token(socket, arguments.service, arguments.instance, arguments.address)
    return tools.first_operator(socket, arguments.name, sys.stdin.buffer.read())


def _add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    match name:
        case "worker":
            command.add_argument("--index", type=int, required=True, help="its number among the workers, from 0")
            command.add_argument("--core", type=int, help="the core to stay on; any unless given")
            command.add_argument("--gather", type=float, default=0.002, help="seconds for which calls wait for others")
        case "recover":
            command.add_argument("--operator", help="make a one-time token for an admin of this name, too")
            command.add_argument("--address", default="", help="host:port of the enrollment listener as they reach it")
        case "service-token":
            command.add_argument("--service", required=True, help="membership, credentials or gateway")
            command.add_argument("--instance", required=True, help="its name among the instances of the service")
            command.add_argument("--address", default="", help="host:port of the enrollment listener as it reaches it")
        case "first-operator":
            command.add_argument("--name", required=True, help="the last part of the operator's SPIFFE ID")


def _run(arguments: argparse.Namespace) -> int:
    from keyreeve_chassis.processes.fork_client import ForkServers, adopt_grandchildren
    from keyreeve_chassis.processes.fork_server import show_as

    show_as("manager")
    adopt_grandchildren()

    async def supervise() -> int:
        passed_on = _passed_on(arguments)
        fork_servers = ForkServers([sys.executable, "-P", "-m", "keyreeve_ca", "fork_server", *passed_on], passed_on)
        try:
            return await _supervise(fork_servers)
        except ChildProcessError as failed:
            return _fail(1, str(failed))
        finally:
            await fork_servers.close()

    return asyncio.run(supervise())


async def _supervise(fork_servers: "ForkServers") -> int:
    import signal

    from keyreeve_chassis.processes.manager import EXIT_SECONDS, ChildRefused, Manager
    from keyreeve_chassis.telemetry import logging as log_setup

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    code, shown = await fork_servers.answer("settings")
    if code:
        return code
    settings = _settings_in(shown)
    run_directory = Path(settings["state_directory"]) / "run"
    metrics = _empty_metrics_directory(run_directory)
    here = machine.machine(run_directory)
    choice = machine.choose(here, pin=settings["signing.pin"], gather_ms=settings["signing.gather_ms"])
    workers = [
        _worker_arguments(choice, choice.core_of(here, index))
        for index in range(here.workers if settings["workers"] == "auto" else settings["workers"])
    ]
    fork_servers.environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    log_setup.configure(settings["log.level"], color=sys.stderr.isatty())
    manager = Manager(fork_servers.fork, workers, stop, settings["drain_seconds"] + EXIT_SECONDS, metrics)
    manager.renew = partial(fork_servers.renew, partial(_why_not_replace, fork_servers, settings))
    manager.told = partial(_tell_replaced, run_directory / "replaced.json")
    loop.add_signal_handler(signal.SIGHUP, manager.replace_workers)
    keeping = asyncio.create_task(fork_servers.keep())
    try:
        await manager.run()
    except ChildRefused:
        return EX_CONFIG
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    return 0


def _passed_on(arguments: argparse.Namespace) -> list[str]:
    """Where the settings are, for a child."""
    options = (("--config", arguments.config), ("--secrets", arguments.secrets))
    return [part for option, value in options if value is not None for part in (option, str(value))]


def _settings_in(document: bytes) -> dict[str, Any]:
    return {row["key"]: json.loads(row["value"]) for row in json.loads(document)}


async def _why_not_replace(fork_servers: "ForkServers", settings: Mapping[str, Any], fresh: "ForkServer") -> str | None:
    """Why the workers cannot be replaced one by one; None when nothing has changed that concerns others beside them."""
    code, shown = await fork_servers.answer("settings", fork_server=fresh)
    if code:
        return "the settings cannot be used"
    now = _settings_in(shown)
    changed = sorted(key for key in settings.keys() | now.keys() if settings.get(key) != now.get(key))
    if others := [key for key in changed if not key.startswith(WORKERS_OWN)]:
        return f"{', '.join(others)} changed, which takes a full restart"
    return None


def _tell_replaced(file: Path, refused: str | None) -> None:
    """Write how the replacing of the workers ended, for whoever asked; the number tells one answer from the next."""
    from keyreeve.files import write_atomically

    number = 1 + json.loads(file.read_bytes())["number"] if file.exists() else 1
    write_atomically(file, json.dumps({"number": number, "refused": refused}).encode())


def _worker_arguments(choice: machine.Choice, core: int | None) -> list[str]:
    return ["--gather", str(choice.gather), *([] if core is None else ["--core", str(core)])]


def _empty_metrics_directory(run_directory: Path) -> Path:
    """The files in which all processes count, for one page of metrics; they begin anew with the service."""
    directory = run_directory / "metrics"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in directory.glob("*.db"):
        left.unlink()
    return directory


def _over_socket(call: Coroutine[Any, Any, object]) -> int:
    from keyreeve import errors

    try:
        return _print(asyncio.run(call))
    except errors.StoreUnavailable as unreachable:
        return _fail(EX_UNREACHABLE, unreachable.message)
    except errors.KeyreeveError as refused:
        return _fail(1, f"{refused.reason}: {refused.message}", *(v.description for v in refused.violations))


def _print(document: object) -> int:
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


def _fail(code: int, *lines: str) -> int:
    sys.stderr.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
