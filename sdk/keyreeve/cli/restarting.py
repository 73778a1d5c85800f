"""Replacing the workers of the services one after the other: what `restart` does."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keyreeve.cli.local_services import SERVICES, Service
from keyreeve.cli.starting import POLL_SECONDS, manager_of
from keyreeve.cli.state_directory import StateDirectory
from keyreeve.errors import StartFailed

LONGEST_SECONDS = 600.0
"""Each worker may take its time for starting, and its predecessor its time for draining."""


def replace_workers(state_directory: StateDirectory, clock: Callable[[], float] = time.monotonic) -> list[str]:
    """Have every service replace its workers, and wait for it; answers the names of the services.

    Raises `StartFailed` when one does not run, does not want to, or could not.
    """
    for service in SERVICES:
        _replace(state_directory, service, clock)
    return [service.name for service in SERVICES]


def _replace(state_directory: StateDirectory, service: Service, clock: Callable[[], float]) -> None:
    manager = manager_of(state_directory, service)
    if manager is None:
        raise StartFailed(f"the {service.name} service does not run: `keyreeve up` starts it")
    answer = state_directory.state(service.name) / "run/replaced.json"
    before = _answer(answer).get("number", 0)
    try:
        manager.stop(signal.SIGHUP)
        until = clock() + LONGEST_SECONDS
        while (told := _answer(answer)).get("number", 0) <= before:
            if manager.wait(POLL_SECONDS):
                raise StartFailed(f"the {service.name} service ended; see {state_directory.log(service.name)}")
            if clock() > until:
                raise StartFailed(
                    f"the workers of {service.name} are still being replaced; see {state_directory.log(service.name)}"
                )
    finally:
        manager.close()
    if told["refused"] is not None:
        raise StartFailed(f"the workers of {service.name} were not all replaced: {told['refused']}")


def _answer(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
