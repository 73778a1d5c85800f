"""Bringing a control plane up on this machine, and taking it down: what `up`, `down`, `reset` and `status` do."""

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from keyreeve.cli import supervisor
from keyreeve.cli.health import is_serving
from keyreeve.cli.local_operator import Operator, find_operator, introduce, recover, utc_now
from keyreeve.cli.local_services import SERVICES, Addresses, Service, is_free, read_addresses, write_config
from keyreeve.cli.processes import Lock, Running, find, read_pid
from keyreeve.cli.service_program import NotThereYet, require_services
from keyreeve.cli.state_directory import StateDirectory
from keyreeve.cli.trust_checks import check_trusted
from keyreeve.errors import CertificateUntrusted, FileUnusable, StartFailed

T = TypeVar("T")

READY_SECONDS = 60.0
PORT_SECONDS = 10.0
POLL_SECONDS = 0.05
GIVE_UP_AFTER = 3
"""Ends of a service before it ever served: more attempts would end the same way."""
STOP_SECONDS = supervisor.DRAIN_SECONDS + 10
LOG_LINES = 12
LOG_WIDTH = 400
"""Characters of a line that are shown: one that holds a traceback is longer than a screen."""


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` found or did."""

    person: Operator
    was_running: bool
    made: bool
    """Whether the control plane was made now, on an empty directory."""
    introduced: bool
    """Whether the person got a certificate now."""
    recovery: dict[str, Any] | None
    """What was replaced after a long sleep; None when nothing had to be looked at."""
    expired_at: datetime | None
    """When the person's certificate had expired, if that is why."""


def supervisor_of(state_directory: StateDirectory) -> Running | None:
    """Take hold of the supervisor that holds the home's lock."""
    return find(Lock(supervisor.lock_file(state_directory)).holder(), str(state_directory.root))


def manager_of(state_directory: StateDirectory, service: Service) -> Running | None:
    """Take hold of a service's manager process."""
    return find(read_pid(supervisor.pid_file(state_directory, service)), service.marker(state_directory))


def facts(state_directory: StateDirectory) -> dict[str, dict[str, Any]]:
    """What the supervisor last told of its services; empty when there is none."""
    try:
        told = json.loads(supervisor.facts_file(state_directory).read_bytes())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def database_of(state_directory: StateDirectory, service: Service) -> str:
    """Where a service that has been started keeps its database, without credentials; empty when it has not noted that."""
    try:
        return str(json.loads((state_directory.state(service.name) / "control-plane.json").read_bytes())["database"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def bring_up(
    state_directory: StateDirectory, *, trust_domain: str, first_port: int, tell: Callable[[str], None]
) -> Started:
    """Start what does not run, wait until it serves, and see to it that the person has a certificate.

    Raises `StartFailed`, with the end of the log, when a service does not come up, and `CertificateUntrusted` when it is
    none of this control plane; what this call started is then stopped again.
    """
    require_services()
    state_directory.make()
    with _alone(state_directory, tell):
        made = False
        for service in SERVICES:
            made |= write_config(
                state_directory,
                service,
                trust_domain=trust_domain,
                first_port=first_port,
                chance=random.SystemRandom(),
                # It stays: a variable that the next start lacks would leave the control plane without its database.
                database=os.environ.get(service.database_variable, ""),
            )
        running = supervisor_of(state_directory)
        if running is None:
            tell("starting")
            wait_for_ports(state_directory)
            supervisor.facts_file(state_directory).unlink(
                missing_ok=True
            )  # a supervisor that was killed left its last words
            _wait_for_supervisor(state_directory, supervisor.launch(state_directory))
        else:
            running.close()
        try:
            recovery, expired_at = _wake(state_directory, tell) if not made else (None, None)
            wait_until_serving(state_directory)
            person, introduced = _greet(state_directory)
        except (StartFailed, CertificateUntrusted):
            if running is None:
                take_down(state_directory)
            if made:
                _forget_settings_of_nothing(state_directory)
            raise
    return Started(person, running is not None, made, introduced, recovery, expired_at)


def _forget_settings_of_nothing(state_directory: StateDirectory) -> None:
    """Remove settings that led to no control plane, such as a mistyped database: the next start writes them anew."""
    for service in SERVICES:
        if not database_of(state_directory, service):
            state_directory.config(service.name).unlink(missing_ok=True)


def _wake(
    state_directory: StateDirectory, tell: Callable[[str], None]
) -> tuple[dict[str, Any] | None, datetime | None]:
    """Recover what has expired, when even the person's own certificate has: nobody has been here for a while.

    The workers may be waiting for it: with an expired CA they get no certificate to serve with.
    """
    person = find_operator(state_directory)
    if person is not None and utc_now() <= person.not_after:
        return None, None
    tell("your certificate has expired; looking at what else has")
    return _when_there(lambda: recover(state_directory)), None if person is None else person.not_after


def _when_there(ask: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> T:
    """Ask the CA's local socket, which may have to be waited for. Raises `StartFailed`."""
    until = clock() + READY_SECONDS
    while True:
        with suppress(NotThereYet):
            return ask()
        if clock() > until:
            raise StartFailed("the CA's local socket does not answer")
        time.sleep(POLL_SECONDS)


def wait_for_ports(state_directory: StateDirectory, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait a little until the ports of every service that does not run are free. Raises `StartFailed`.

    Services share their port between processes (SO_REUSEPORT), so the kernel would give two control planes the same one
    without a word, and each would get half of the other's calls. Processes of ours that lost their manager end soon.
    """
    until = clock() + PORT_SECONDS
    for service in SERVICES:
        manager = manager_of(state_directory, service)
        if manager is not None:
            manager.close()
            continue
        for port in read_addresses(state_directory, service).ports:
            while not is_free(port):
                if clock() > until:
                    raise StartFailed(
                        f"another program listens on port {port}: stop it, or change the port in "
                        f"{state_directory.config(service.name)}"
                    )
                time.sleep(POLL_SECONDS)


def wait_until_serving(state_directory: StateDirectory, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait until every service answers that it serves. Raises `StartFailed`."""
    until = clock() + READY_SECONDS
    for service in SERVICES:
        addresses = read_addresses(state_directory, service)
        before = facts(state_directory).get(service.name, {}).get("restarts", 0)
        while not is_serving(addresses):
            known = facts(state_directory).get(service.name, {})
            ends = known.get("restarts", 0) - before
            if ends >= GIVE_UP_AFTER or (ends and known.get("last_end") == supervisor.WILL_NOT_START):
                raise StartFailed(
                    _with_log(
                        state_directory.log(service.name), f"the {service.name} service ended: {known['last_end']}"
                    )
                )
            if clock() > until:
                raise StartFailed(
                    _with_log(
                        state_directory.log(service.name), f"the {service.name} service did not become ready in time"
                    )
                )
            time.sleep(POLL_SECONDS)


def _wait_for_supervisor(state_directory: StateDirectory, program: subprocess.Popen[bytes]) -> None:
    """Wait until a supervisor, this one or another, has the lock: services that it adopts may serve before that."""
    until = time.monotonic() + READY_SECONDS
    while (running := supervisor_of(state_directory)) is None:
        if program.poll() is not None or time.monotonic() > until:
            raise StartFailed(_with_log(state_directory.log("supervisor"), "the supervisor did not start"))
        time.sleep(POLL_SECONDS)
    running.close()


def _greet(state_directory: StateDirectory) -> tuple[Operator, bool]:
    now = utc_now()
    person = find_operator(state_directory)
    if (
        person is not None
        and state_directory.key.exists()
        and state_directory.context.exists()
        and not person.wants_renewal(now)
    ):
        for service in SERVICES:
            check_trusted(state_directory, read_addresses(state_directory, service))
        return person, False
    return _when_there(lambda: introduce(state_directory, now)), True


def _with_log(log: Path, what: str) -> str:
    with suppress(OSError):
        lines = [line[:LOG_WIDTH] for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:]]
        return "\n       ".join([f"{what}; the end of {log}:", *lines])
    return what


@contextmanager
def _alone(state_directory: StateDirectory, tell: Callable[[str], None]) -> Iterator[None]:
    """Let one `up` at a time work on a home; the second waits, and then finds everything done."""
    try:
        handle = os.open(state_directory.runtime / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise FileUnusable(f"cannot write in {state_directory.runtime}: {problem.strerror}") from problem
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("another `keyreeve up` is at work here; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def take_down(state_directory: StateDirectory) -> bool:
    """Stop the supervisor and, in its absence, the services it left; say whether anything ran."""
    found = False
    running = supervisor_of(state_directory)
    if running is not None:
        found = True
        _end(running)
    for service in SERVICES:
        manager = manager_of(state_directory, service)
        if manager is not None:
            found = True
            _end(manager)
        supervisor.pid_file(state_directory, service).unlink(missing_ok=True)
    supervisor.facts_file(state_directory).unlink(missing_ok=True)
    return found


def _end(running: Running) -> None:
    running.stop()
    if not running.wait(STOP_SECONDS):
        running.stop(signal.SIGKILL)
        running.wait(5.0)
    running.close()


def wipe(state_directory: StateDirectory) -> None:
    """Stop everything and remove the home with all keys and certificates in it."""
    take_down(state_directory)
    try:
        shutil.rmtree(state_directory.root)
    except FileNotFoundError:
        return
    except OSError as problem:
        raise FileUnusable(f"cannot remove {problem.filename}: {problem.strerror}") from problem


def status(state_directory: StateDirectory) -> dict[str, Any]:
    """Tell what runs of a state_directory: plain values, for `status` and programs."""
    running = supervisor_of(state_directory)
    services = []
    for service in SERVICES:
        addresses = read_addresses(state_directory, service)
        services.append(_service_status(state_directory, service, addresses))
    result = {
        "directory": str(state_directory.root),
        "supervisor": {"running": running is not None, "pid": running.pid if running else None},
        "services": services,
    }
    if running:
        running.close()
    return result


def _service_status(state_directory: StateDirectory, service: Service, addresses: Addresses) -> dict[str, Any]:
    manager = manager_of(state_directory, service)
    known = facts(state_directory).get(service.name, {})
    state = "stopped"
    if manager is not None:
        state = "serving" if is_serving(addresses) else "starting"
    result = {
        "service": service.name,
        "state": state,
        "pid": manager.pid if manager else None,
        "since": known.get("since") if manager else None,
        "restarts": known.get("restarts", 0),
        "address": addresses.endpoint,
        "health": f"{addresses.host}:{addresses.health_port}",
        "metrics": f"{addresses.host}:{addresses.metrics_port}",
        "http": addresses.http_url,
        "enroll": None if addresses.enroll_port is None else f"{addresses.host}:{addresses.enroll_port}",
        "trust_domain": addresses.trust_domain,
    }
    if manager is not None:
        manager.close()
    return result
