"""Replace the workers of the services one after the other: what `restart` does."""

import json
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keyreeve.cli.local.local_status import manager_of
from keyreeve.cli.local.starting import POLL_SECONDS
from keyreeve.cli.supervision.local_services import SERVICES, Service
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import StartFailed

LONGEST_SECONDS = 600.0
"""Longest time for all workers of a service: each starts, and its predecessor drains."""


def replace_workers(
    state_directory: StateDirectory,
    services: Sequence[Service] = SERVICES,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Have every service with workers replace them, and wait for it.

    Returns the names of these services.

    Raises `StartFailed` when one does not run, or did not replace all of its workers.
    """
    managed = [service for service in services if not service.solo]
    for service in managed:
        _replace(state_directory, service, clock)
    return [service.name for service in managed]


def _replace(state_directory: StateDirectory, service: Service, clock: Callable[[], float]) -> None:
    manager = manager_of(state_directory, service)
    if manager is None:
        raise StartFailed(f"the {service.name} service does not run: `keyreeve up` starts it")
    result_file = state_directory.state(service.name) / "run/replaced.json"
    before = _read_result(result_file).get("number", 0)
    try:
        manager.stop(signal.SIGHUP)
        until = clock() + LONGEST_SECONDS
        while (result := _read_result(result_file)).get("number", 0) <= before:
            if manager.wait(POLL_SECONDS):
                raise StartFailed(f"the {service.name} service ended; see {state_directory.log(service.name)}")
            if clock() > until:
                raise StartFailed(
                    f"the workers of {service.name} are still being replaced; see {state_directory.log(service.name)}"
                )
    finally:
        manager.close()
    if result["refused"] is not None:
        raise StartFailed(f"the workers of {service.name} were not all replaced: {result['refused']}")


def _read_result(file: Path) -> dict[str, Any]:
    try:
        result = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}
