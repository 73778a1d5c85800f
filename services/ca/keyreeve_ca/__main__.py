"""`python -m keyreeve_ca COMMAND`: the service, its processes, and what an operator does beside it.

Everything but `run`, `keeper` and `worker` prints one JSON document on standard output. Exit codes: 0 done, 1 refused, 3
the local socket does not answer, 78 the settings or the database do not allow a start.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from keyreeve_ca import machine
from keyreeve_ca.master import EX_CONFIG

EX_UNREACHABLE = 3


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="python -m keyreeve_ca", description="The CA service of Keyreeve.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("run", "run the service: a keeper and the workers, restarted when they die"),
        ("keeper", "one of the processes that `run` starts: database, local socket, background work"),
        ("worker", "one of the processes that `run` starts: it serves the RPCs"),
        ("migrate", "bring the database to this release's schema, and end"),
        ("settings", "print the effective settings and where each came from"),
        ("check", "print what is wrong with this installation, each finding with its fix"),
        ("recover", "replace what has expired, over the local socket, and print what was done"),
        ("first-operator", "certify the key in the CSR on standard input as an admin, over the local socket"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("--config", type=Path, help="YAML file of settings (docs/settings.md)")
        command.add_argument("--secrets", type=Path, help="directory of secret files, one for each setting")
        _add_arguments(name, command)
    arguments = parser.parse_args()
    os.umask(0o077)  # whatever this service writes is nobody else's business
    if arguments.command == "run":
        return _run(arguments)
    if arguments.command == "worker" and arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})  # before anything starts threads, which inherit it
    # Only here: the parent of the processes must not import what they import.
    from keyreeve_chassis.telemetry import metrics

    metrics.keep_process_id()
    from keyreeve_ca import app, keeper, processes, tools, worker
    from keyreeve_chassis.settings import SettingsRefused

    try:
        loaded = app.load_settings(arguments.config, arguments.secrets, os.environ)
    except SettingsRefused as refused:
        return _fail(EX_CONFIG, "the settings cannot be used", *refused.problems)
    settings = loaded.settings
    match arguments.command:
        case "keeper":
            code = processes.main(lambda: keeper.keeper(settings), settings)
        case "worker":
            code = processes.main(lambda: worker.worker(settings, arguments.index, arguments.gather), settings)
        case "migrate":
            code = processes.main(lambda: keeper.migrate(settings), settings)
        case "settings":
            code = _print(tools.settings_rows(loaded))
        case "check":
            code = _print(tools.check(settings))
        case "recover":
            code = _over_socket(tools.recover(settings.keeper_socket, arguments.operator, arguments.address))
        case _:
            code = _over_socket(tools.first_operator(settings.keeper_socket, arguments.name, sys.stdin.buffer.read()))
    return code


def _add_arguments(name: str, command: argparse.ArgumentParser) -> None:
    match name:
        case "worker":
            command.add_argument("--index", type=int, required=True, help="its number among the workers, from 0")
            command.add_argument("--core", type=int, help="the core to stay on; any unless given")
            command.add_argument("--gather", type=float, default=0.002, help="seconds for which calls wait for others")
        case "recover":
            command.add_argument("--operator", help="make a one-time token for an admin of this name, too")
            command.add_argument("--address", default="", help="host:port of the newcomers' listener as they reach it")
        case "first-operator":
            command.add_argument("--name", required=True, help="the last part of the operator's SPIFFE ID")


def _run(arguments: argparse.Namespace) -> int:
    import signal
    import subprocess

    from keyreeve_ca.master import EXIT_SECONDS, ChildRefused, Master
    from keyreeve_chassis.telemetry import logging as log_setup

    passed_on = [
        part
        for option, value in (("--config", arguments.config), ("--secrets", arguments.secrets))
        if value is not None
        for part in (option, str(value))
    ]
    shown = subprocess.run(  # noqa: S603 - our own program with our own arguments
        [sys.executable, "-P", "-m", "keyreeve_ca", "settings", *passed_on],
        stdout=subprocess.PIPE,
        check=False,
    )
    if shown.returncode:
        return shown.returncode
    settings = {row["key"]: json.loads(row["value"]) for row in json.loads(shown.stdout)}
    run_directory = Path(settings["state_directory"]) / "run"
    metrics = _empty_metrics_directory(run_directory)
    here = machine.machine(run_directory)
    choice = machine.choose(here, pin=settings["signing.pin"], gather_ms=settings["signing.gather_ms"])
    workers = [
        _worker_arguments(choice, choice.core_of(here, index))
        for index in range(here.workers if settings["workers"] == "auto" else settings["workers"])
    ]
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    log_setup.configure(settings["log.level"], colour=sys.stderr.isatty())

    async def supervise() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            await Master(passed_on, workers, stop, settings["drain_seconds"] + EXIT_SECONDS, metrics).run()
        except ChildRefused:
            return EX_CONFIG
        return 0

    return asyncio.run(supervise())


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
