"""Stop and remove a control plane on this machine: what `down` and `reset` do."""

import shutil
import signal
from collections.abc import Sequence

from keyreeve.cli.local.local_status import manager_of, supervisor_of
from keyreeve.cli.supervision import supervisor
from keyreeve.cli.supervision.local_services import SERVICES, Service
from keyreeve.cli.supervision.processes import Running
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import FileUnusable

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


def remove(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> None:
    """Stop the services and delete the state directory with all its keys."""
    take_down(state_directory, services)
    try:
        shutil.rmtree(state_directory.root)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise FileUnusable(f"cannot remove {problem.filename}: {problem.strerror}") from problem
