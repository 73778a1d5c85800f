"""`run` of a service of several processes: the process manager over a fork server (docs/adr/0016)."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from keyreeve_chassis.processes.cpus import usable_cpus
from keyreeve_chassis.processes.fork_client import ForkServer, ForkServers, adopt_grandchildren
from keyreeve_chassis.processes.fork_server import show_as
from keyreeve_chassis.processes.manager import EX_CONFIG, EXIT_SECONDS, ChildRefused, Manager

REPLACEABLE = "listen."
"""Settings that begin so concern workers alone: workers that are replaced one by one may take them up."""


def run_managed(service: str, passed_on: Sequence[str]) -> int:
    """Run the service's processes until a signal ends them; return the exit code.

    `passed_on` are arguments of each process. Raises `ChildProcessError`.
    """
    show_as(service, "manager")
    adopt_grandchildren()

    async def supervise() -> int:
        command = [sys.executable, "-P", "-m", f"keyreeve_{service}", "fork_server", *passed_on]
        fork_servers = ForkServers(command, passed_on)
        try:
            return await _supervise(fork_servers)
        finally:
            await fork_servers.close()

    return asyncio.run(supervise())


async def _supervise(fork_servers: ForkServers) -> int:
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
    workers = usable_cpus() if settings["workers"] == "auto" else settings["workers"]
    fork_servers.environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    log_setup.configure(settings["log.level"], color=sys.stderr.isatty())
    manager = Manager(
        fork_servers.fork,
        workers,
        stop,
        settings["drain_seconds"] + EXIT_SECONDS,
        metrics,
        renew=partial(fork_servers.renew, partial(_why_not_replace, fork_servers, settings)),
        most_memory=settings["worker_memory_bytes"],
        replaced=partial(_record_replacement, run_directory / "replaced.json"),
    )
    loop.add_signal_handler(signal.SIGHUP, manager.replace_workers)
    kept = asyncio.create_task(fork_servers.keep())
    try:
        await manager.run()
    except ChildRefused:
        return EX_CONFIG
    finally:
        kept.cancel()
        await asyncio.gather(kept, return_exceptions=True)
    return 0


def _settings_in(document: bytes) -> dict[str, Any]:
    return {row["key"]: json.loads(row["value"]) for row in json.loads(document)}


async def _why_not_replace(fork_servers: ForkServers, settings: Mapping[str, Any], fresh: ForkServer) -> str | None:
    """Return why workers cannot be replaced one by one: a setting changed that others depend on. None: they can."""
    code, shown = await fork_servers.answer("settings", fork_server=fresh)
    if code:
        return "the settings cannot be used"
    now = _settings_in(shown)
    changed = sorted(key for key in settings.keys() | now.keys() if settings.get(key) != now.get(key))
    if others := [key for key in changed if not key.startswith(REPLACEABLE)]:
        return f"{', '.join(others)} changed, which takes a full restart"
    return None


def _record_replacement(file: Path, refused: str | None) -> None:
    """Record the outcome of a replacement; the number tells one from the next."""
    from keyreeve.files import write_atomically

    number = 1 + json.loads(file.read_bytes())["number"] if file.exists() else 1
    write_atomically(file, json.dumps({"number": number, "refused": refused}).encode())


def _empty_metrics_directory(run_directory: Path) -> Path:
    """Empty the directory of shared metrics files; it starts empty with the service."""
    directory = run_directory / "metrics"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in directory.glob("*.db"):
        left.unlink()
    return directory
