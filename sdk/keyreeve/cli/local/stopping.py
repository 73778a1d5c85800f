"""Stop and remove a control plane on this machine: what `down` and `reset` do."""

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from keyreeve.cli.local.local_status import database_of, manager_of, supervisor_of
from keyreeve.cli.supervision import supervisor
from keyreeve.cli.supervision.local_services import SERVICES, Service
from keyreeve.cli.supervision.processes import Running
from keyreeve.cli.supervision.service_program import NotThereYet, ask
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import FileUnusable, KeyreeveError

STOP_SECONDS = 2 * supervisor.DRAIN_SECONDS + 10
"""The supervisor stops the CA after the other services, and gives either `DRAIN_SECONDS`."""


def take_down(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> bool:
    """Stop the supervisor and, in its absence, the services it left.

    Returns whether anything ran.
    """
    found = False
    running = supervisor_of(state_directory)
    if running is not None:
        found = True
        end(running)
    for service in sorted(services, key=lambda each: each.is_ca):  # the CA last, as the supervisor does
        manager = manager_of(state_directory, service)
        if manager is not None:
            found = True
            end(manager)
        supervisor.pid_file(state_directory, service).unlink(missing_ok=True)
    supervisor.records_file(state_directory).unlink(missing_ok=True)
    return found


def end(running: Running) -> None:
    """Stop a process by SIGTERM, or SIGKILL when it takes too long; close its pidfd."""
    running.stop()
    if not running.wait(STOP_SECONDS):
        running.stop(signal.SIGKILL)
        running.wait(5.0)
    running.close()


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal has deleted beside the state directory, and what it has left."""

    databases: list[str]
    left: list[str]


def databases_elsewhere(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> dict[str, str]:
    """The databases outside the state directory, without credentials, by service."""
    inside = f"SQLite {state_directory.root}{os.sep}"
    places = {service.name: database_of(state_directory, service) for service in services}
    return {name: place for name, place in places.items() if place and not place.startswith(inside)}


def remove(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> Removed:
    """Stop the services; delete what they have made in databases, and the state directory with all its keys."""
    take_down(state_directory, services)
    removed = Removed([], [])
    elsewhere = databases_elsewhere(state_directory, services)
    for service in services:
        if (place := elsewhere.get(service.name)) is None:
            continue
        databases, problem = _remove_database(state_directory, service)
        removed.databases.extend(databases)
        if problem:
            what = f"the schema keyreeve_{service.name} of {place}" if not place.startswith("SQLite ") else place
            removed.left.append(f"{what}, because {problem}")
    try:
        shutil.rmtree(state_directory.root)
    except FileNotFoundError:
        pass
    except OSError as problem:
        raise FileUnusable(f"cannot remove {problem.filename}: {problem.strerror}") from problem
    return removed


def _remove_database(state_directory: StateDirectory, service: Service) -> tuple[list[str], str]:
    """Have a service's program remove what the service has made; return that, and the problem, if any."""
    try:
        told = ask("remove-database", state_directory.config(service.name), module=service.module)
    except (KeyreeveError, NotThereYet) as problem:
        return [], str(problem) or "its program does not answer"
    return list(told["removed"]), str(told["problem"])
