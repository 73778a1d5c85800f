"""State of a control plane on this machine: its supervisor and services."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from keyreeve.cli.local.health import is_serving
from keyreeve.cli.local.service_problems import problems_of
from keyreeve.cli.supervision import supervisor
from keyreeve.cli.supervision.local_services import SERVICES, Addresses, Service, read_addresses
from keyreeve.cli.supervision.processes import Lock, Running, find, read_pid
from keyreeve.cli.supervision.state_directory import StateDirectory


def supervisor_of(state_directory: StateDirectory) -> Running | None:
    """Take hold of the supervisor that holds the lock of a state directory."""
    return find(Lock(supervisor.lock_file(state_directory)).holder(), str(state_directory.root))


def manager_of(state_directory: StateDirectory, service: Service) -> Running | None:
    """Take hold of a service's manager process."""
    return find(read_pid(supervisor.pid_file(state_directory, service)), service.marker(state_directory))


def service_records(state_directory: StateDirectory) -> dict[str, dict[str, Any]]:
    """The fields of the supervisor's `ServiceRecord` of each service.

    Empty when it has written none.
    """
    try:
        records = json.loads(supervisor.records_file(state_directory).read_bytes())
    except (OSError, ValueError):
        return {}
    return records if isinstance(records, dict) else {}


def database_of(state_directory: StateDirectory, service: Service) -> str:
    """Where a service that has been started keeps its database, without credentials.

    Empty when that is not known.
    """
    for note in ("control-plane.json", "database.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            return str(json.loads((state_directory.state(service.name) / note).read_bytes())["database"])
    return ""


def status(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> dict[str, Any]:
    """What runs of a state directory, as plain values."""
    running = supervisor_of(state_directory)
    result = {
        "directory": str(state_directory.root),
        "supervisor": {"running": running is not None, "pid": running.pid if running else None},
        "services": [
            _service_status(state_directory, service, read_addresses(state_directory, service)) for service in services
        ],
    }
    if running:
        running.close()
    return result


def _service_status(state_directory: StateDirectory, service: Service, addresses: Addresses) -> dict[str, Any]:
    manager = manager_of(state_directory, service)
    record = service_records(state_directory).get(service.name, {})
    state = "stopped"
    if manager is not None:
        state = "serving" if is_serving(addresses) else "starting"
    result = {
        "service": service.name,
        "state": state,
        "pid": manager.pid if manager else None,
        "since": record.get("since") if manager else None,
        "restarts": record.get("restarts", 0),
        "address": addresses.endpoint,
        "health": addresses.health,
        "metrics": addresses.metrics,
        "http": addresses.http_url,
        "enroll": None if addresses.enroll_port is None else f"{addresses.host}:{addresses.enroll_port}",
        "trust_domain": addresses.trust_domain,
        "problems": problems_of(addresses) if state == "serving" else [],
    }
    if manager is not None:
        manager.close()
    return result
