"""Start-up of a control plane on this machine: what `up` does."""

import fcntl
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from keyreeve.cli.certificates.trust_checks import check_trusted
from keyreeve.cli.local.health import is_serving
from keyreeve.cli.local.local_operator import (
    Operator,
    find_operator,
    issue_operator_certificate,
    recover,
    update_context,
    utc_now,
)
from keyreeve.cli.local.local_status import database_of, manager_of, service_records, supervisor_of
from keyreeve.cli.local.moving import follow_moved_directory, refuse_other_trust_domain
from keyreeve.cli.local.stopping import end, take_down
from keyreeve.cli.supervision import supervisor
from keyreeve.cli.supervision.local_services import (
    DEFAULT_TRUST_DOMAIN,
    LOOPBACK,
    SERVICES,
    Service,
    ca_of,
    is_free,
    read_addresses,
    stale_addresses,
    write_config,
)
from keyreeve.cli.supervision.service_program import NotThereYet, require_module
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import CertificateUntrusted, FileUnusable, StartFailed
from keyreeve.service_files import certificate_end

T = TypeVar("T")

READY_SECONDS = 60.0
PORT_SECONDS = 10.0
POLL_SECONDS = 0.05
GIVE_UP_AFTER = 3
"""Ends of a service before it ever served: more attempts would end the same way."""
LOG_LINES = 12
LOG_WIDTH = 400
"""Characters of a log line that are shown: one that holds a traceback is longer than a screen."""


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` found or did."""

    operator: Operator
    was_running: bool
    created: bool
    """Whether the control plane was made now, in an empty directory."""
    issued: bool
    """Whether the operator got a certificate now."""
    recovery: dict[str, Any] | None
    """What was replaced because it had expired; None when the operator's certificate had not."""
    expired_at: datetime | None
    """When the operator's certificate had expired, if it had."""


def bring_up(
    state_directory: StateDirectory,
    *,
    trust_domain: str | None,
    first_port: int,
    report: Callable[[str], None],
    services: Sequence[Service] = SERVICES,
) -> Started:
    """Start the services, wait until they serve, and certify the operator.

    `report` gets a line for each step that takes a while. Raises `StartFailed`, with the end of the log, when a service
    does not become ready, and `CertificateUntrusted` when it belongs to another control plane; the services that this
    call started are then stopped again.
    """
    for service in services:
        require_module(service.module)
    state_directory.make()
    with _exclusive(state_directory, report):
        follow_moved_directory(state_directory, services, report)
        refuse_other_trust_domain(state_directory, services, trust_domain)
        created = _write_configs(
            state_directory, services, trust_domain=trust_domain or DEFAULT_TRUST_DOMAIN, first_port=first_port
        )
        for line in _stale_addresses(state_directory, services):
            report(line)
        running = supervisor_of(state_directory)
        if running is None:
            report("starting")
            wait_for_ports(state_directory, services)
            # A supervisor that was killed left its records.
            supervisor.records_file(state_directory).unlink(missing_ok=True)
            _wait_for_supervisor(state_directory, supervisor.launch(state_directory, services))
        else:
            running.close()
        try:
            recovery, expired_at = (
                _recover_if_expired(state_directory, services, report) if not created else (None, None)
            )
            if running is not None:
                restart_expired(state_directory, services, utc_now(), report)
            wait_until_serving(state_directory, services)
            operator, issued = _ensure_operator(state_directory, services)
        except (StartFailed, CertificateUntrusted):
            if running is None:
                take_down(state_directory, services)
            if created:
                _remove_unused_settings(state_directory, services)
            raise
    return Started(operator, running is not None, created, issued, recovery, expired_at)


def _write_configs(
    state_directory: StateDirectory, services: Sequence[Service], *, trust_domain: str, first_port: int
) -> bool:
    """Write the settings files that do not exist.

    Returns whether the CA's was among them.
    """
    created = False
    taken: set[int] = set()
    endpoints: dict[str, str] = {}
    for service in services:
        written = write_config(
            state_directory,
            service,
            trust_domain=trust_domain,
            first_port=first_port,
            rng=random.SystemRandom(),
            # It stays: a variable that the next start lacks would leave the control plane without its database.
            database=os.environ.get(service.database_variable, ""),
            taken=taken,
            endpoints=endpoints,
        )
        created |= written and service.is_ca
        addresses = read_addresses(state_directory, service)
        taken |= set(addresses.ports)
        endpoints[service.name] = addresses.endpoint
        # A service that is added later joins the trust domain of the CA.
        trust_domain = addresses.trust_domain if service.is_ca else trust_domain
    return created


def _stale_addresses(state_directory: StateDirectory, services: Sequence[Service]) -> Iterator[str]:
    endpoints = {service.name: read_addresses(state_directory, service).endpoint for service in services}
    for service in services:
        yield from stale_addresses(state_directory, service, endpoints)


def _remove_unused_settings(state_directory: StateDirectory, services: Sequence[Service]) -> None:
    """Remove settings that led to no control plane, such as a mistyped database.

    The next start writes them again.
    """
    for service in services:
        if not database_of(state_directory, service):
            state_directory.config(service.name).unlink(missing_ok=True)


def _recover_if_expired(
    state_directory: StateDirectory, services: Sequence[Service], report: Callable[[str], None]
) -> tuple[dict[str, Any] | None, datetime | None]:
    """Recover what has expired if the operator's certificate has.

    Returns what was done, and when it had expired.

    The workers may be waiting for it: with an expired CA they get no certificate to serve with.
    """
    operator = find_operator(state_directory)
    if operator is not None and utc_now() <= operator.not_after:
        return None, None
    report("your certificate has expired; replacing what else has expired")
    module = ca_of(services).module
    recovery = _retry_until_open(lambda: recover(state_directory, module=module))
    return recovery, None if operator is None else operator.not_after


def _retry_until_open(ask: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> T:
    """Ask the CA over its local socket, and wait until it is open.

    Raises `StartFailed`.
    """
    until = clock() + READY_SECONDS
    while True:
        with suppress(NotThereYet):
            return ask()
        if clock() > until:
            raise StartFailed("the CA's local socket does not answer")
        time.sleep(POLL_SECONDS)


def restart_expired(
    state_directory: StateDirectory, services: Sequence[Service], now: datetime, report: Callable[[str], None]
) -> None:
    """Stop each running service whose certificate has expired.

    The supervisor starts it with an enrollment token.
    """
    stopped = []
    for service in services:
        expiry = None if service.is_ca else certificate_end(state_directory.state(service.name))
        if expiry is not None and now >= expiry and (manager := manager_of(state_directory, service)) is not None:
            report(f"the certificate of {service.name} has expired; restarting it")
            manager.stop()
            stopped.append(manager)
    for manager in stopped:
        end(manager)


def wait_for_ports(
    state_directory: StateDirectory,
    services: Sequence[Service] = SERVICES,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait a little until the ports of every service that does not run are free.

    Raises `StartFailed`.

    Services share their port between processes (SO_REUSEPORT), so the kernel would give two control planes the same one
    without an error, and each would get half of the other's calls. Processes of ours that lost their manager end soon.
    """
    until = clock() + PORT_SECONDS
    for service in services:
        manager = manager_of(state_directory, service)
        if manager is not None:
            manager.close()
            continue
        addresses = read_addresses(state_directory, service)
        for port in addresses.ports:
            while not is_free(port, addresses.host if port == addresses.port else LOOPBACK):
                if clock() > until:
                    raise StartFailed(
                        f"another program listens on port {port}: stop it, or change the port in "
                        f"{state_directory.config(service.name)}"
                    )
                time.sleep(POLL_SECONDS)


def wait_until_serving(
    state_directory: StateDirectory,
    services: Sequence[Service] = SERVICES,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Wait until every service answers that it serves. Raises `StartFailed`."""
    until = clock() + READY_SECONDS
    for service in services:
        addresses = read_addresses(state_directory, service)
        log = state_directory.log(service.name)
        before = service_records(state_directory).get(service.name, {}).get("restarts", 0)
        while not is_serving(addresses):
            record = service_records(state_directory).get(service.name, {})
            ends = record.get("restarts", 0) - before
            if ends >= GIVE_UP_AFTER or (ends and record.get("last_end") == supervisor.WILL_NOT_START):
                raise StartFailed(_with_log(log, f"the {service.name} service ended: {record['last_end']}"))
            if clock() > until:
                raise StartFailed(_with_log(log, f"the {service.name} service did not become ready in time"))
            time.sleep(POLL_SECONDS)


def _wait_for_supervisor(state_directory: StateDirectory, program: subprocess.Popen[bytes]) -> None:
    """Wait until a supervisor, this one or another, has the lock.

    Services that it adopts may serve before that.
    """
    until = time.monotonic() + READY_SECONDS
    while (running := supervisor_of(state_directory)) is None:
        if program.poll() is not None or time.monotonic() > until:
            raise StartFailed(_with_log(state_directory.log("supervisor"), "the supervisor did not start"))
        time.sleep(POLL_SECONDS)
    running.close()


def _ensure_operator(state_directory: StateDirectory, services: Sequence[Service]) -> tuple[Operator, bool]:
    """Give the operator a certificate unless there is a good one.

    Returns whether it was issued now.
    """
    now = utc_now()
    operator = find_operator(state_directory)
    if (
        operator is not None
        and state_directory.key.exists()
        and state_directory.context.exists()
        and not operator.wants_renewal(now)
    ):
        for service in services:
            check_trusted(state_directory, read_addresses(state_directory, service))
        update_context(state_directory, services)
        return operator, False
    return _retry_until_open(lambda: issue_operator_certificate(state_directory, services, now)), True


def _with_log(log: Path, what: str) -> str:
    with suppress(OSError):
        events = [_event_of(line)[:LOG_WIDTH] for line in log.read_text(errors="replace").splitlines()]
        # A service that is started again and again writes the same each time.
        distinct = list(dict.fromkeys(reversed(events[-LOG_LINES:])))
        return "\n       ".join([f"{what}; the end of {log}:", *reversed(distinct)])
    return what


def _event_of(line: str) -> str:
    """The text of a log line, whose other fields are in the file."""
    try:
        fields = json.loads(line)
        return str(fields["event"]) if "exception" not in fields else line
    except (ValueError, KeyError, TypeError):
        return line


@contextmanager
def _exclusive(state_directory: StateDirectory, report: Callable[[str], None]) -> Iterator[None]:
    """Let one `up` at a time work on a state directory.

    The second waits, and then finds everything done.
    """
    try:
        handle = os.open(state_directory.runtime / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise FileUnusable(f"cannot write in {state_directory.runtime}: {problem.strerror}") from problem
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another `keyreeve up` is at work here; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
