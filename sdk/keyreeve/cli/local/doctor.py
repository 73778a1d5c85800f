"""Check what usually goes wrong with a control plane on one machine.

Every finding says what to do.
"""

import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from keyreeve.cli.certificates.trust_checks import load_pem, verify_for
from keyreeve.cli.clock_check import TOLERANCE, served_date
from keyreeve.cli.local.health import is_serving
from keyreeve.cli.local.local_operator import find_operator
from keyreeve.cli.local.local_status import manager_of, supervisor_of
from keyreeve.cli.printing import distance, until
from keyreeve.cli.supervision.local_services import (
    LOOPBACK,
    SERVICES,
    Service,
    dialed,
    read_addresses,
)
from keyreeve.cli.supervision.service_program import NotThereYet, ask
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.enrollee_files import EnrolleeFiles
from keyreeve.errors import FileUnusable, KeyreeveError
from keyreeve.service_files import certificate_end, identity_directory

_ANSWER_SECONDS = 3.0
_OF_THE_MACHINE = frozenset({"sqlite", "transport", "open files"})
"""Checks of services that say the same of each service, unless their settings differ."""


class Severity(StrEnum):
    """How a check came out; only an error makes `doctor` fail."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check, how it came out, and what to do about it."""

    check: str
    severity: Severity
    message: str
    fix: str = ""

    def document(self) -> dict[str, str]:
        return {"check": self.check, "severity": self.severity.value, "message": self.message, "fix": self.fix}


def examine(state_directory: StateDirectory, now: datetime, services: Sequence[Service] = SERVICES) -> list[Finding]:
    """Run every check, in the order in which the findings are best repaired."""
    with ThreadPoolExecutor(len(services)) as pool:  # each is a program that starts
        asked = [pool.submit(list[Finding], check_by_service(state_directory, service)) for service in services]
        findings = [*check_supervisor(state_directory)]
        for service in services:
            findings += check_service(state_directory, service, now)
        findings += check_clocks(state_directory, services, now)
        findings += check_certificate(state_directory, now)
        findings += check_modes(state_directory, services)
        return findings + told_once({service.name: one.result() for service, one in zip(services, asked, strict=True)})


def told_once(findings: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """The findings by service under the service's name; what they say of the machine in the same words comes once."""
    told: dict[Finding, None] = {}
    for service, each in findings.items():
        for one in each:
            own = replace(one, check=f"{service} {one.check}".strip())
            told[one if one.check in _OF_THE_MACHINE else own] = None
    return list(told)


def check_supervisor(state_directory: StateDirectory) -> Iterator[Finding]:
    """Check that the supervisor runs."""
    running = supervisor_of(state_directory)
    if running is None:
        yield Finding(
            "supervisor", Severity.ERROR, "it does not run, so a service that dies is not restarted", "keyreeve up"
        )
    else:
        yield Finding("supervisor", Severity.OK, f"process {running.pid}")
        running.close()


def check_service(state_directory: StateDirectory, service: Service, now: datetime) -> Iterator[Finding]:
    """Check the process, ports, health, certificate and clock of a service."""
    try:
        addresses = read_addresses(state_directory, service)
    except FileUnusable as problem:
        yield Finding(f"{service.name} settings", Severity.ERROR, problem.message, problem.fix)
        return
    manager = manager_of(state_directory, service)
    if manager is not None:
        manager.close()
    for name, host, port in (
        ("port", addresses.host, addresses.port),
        ("health port", addresses.health_host, addresses.health_port),
        ("metrics port", addresses.metrics_host, addresses.metrics_port),
        ("enrollment port", LOOPBACK, addresses.enroll_port),
    ):
        if port is None:
            continue
        yield _check_port(service, name, dialed(host), port, runs=manager is not None)
    log = state_directory.log(service.name)
    if is_serving(addresses):
        yield Finding(f"{service.name} health", Severity.OK, "it serves")
    else:
        yield Finding(f"{service.name} health", Severity.ERROR, "it does not serve", f"keyreeve up; then read {log}")
    if not service.is_ca:  # the CA checks its own by itself
        yield _check_service_certificate(state_directory, service, now)


def _check_service_certificate(state_directory: StateDirectory, service: Service, now: datetime) -> Finding:
    check = f"{service.name} certificate"
    end = certificate_end(state_directory.state(service.name))
    if end is None:
        return Finding(check, Severity.ERROR, "there is none: the service has not enrolled", "keyreeve up")
    if now >= end:
        return Finding(check, Severity.ERROR, f"it expired at {until(end, now)}", "keyreeve up")
    return Finding(check, Severity.OK, f"valid until {until(end, now)}")


def _check_port(service: Service, name: str, host: str, port: int, *, runs: bool) -> Finding:
    check = f"{service.name} {name}"
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
        open_ = True
    except OSError:
        open_ = False
    if open_ and not runs:
        return Finding(
            check,
            Severity.ERROR,
            f"another program listens on {host}:{port}",
            f"stop it, or change the port in {service.name}.yaml, then keyreeve up",
        )
    if not open_ and runs:
        return Finding(check, Severity.ERROR, f"nothing listens on {host}:{port}", "keyreeve down, keyreeve up")
    return Finding(check, Severity.OK, f"{host}:{port} " + ("is ours" if runs else "is free"))


def check_clocks(state_directory: StateDirectory, services: Sequence[Service], now: datetime) -> Iterator[Finding]:
    """Compare this machine's clock with those of the services that can be asked.

    Their plain-HTTP responses contain the time, to the second (RFC 9110, section 6.6.1).
    """
    read = []
    for service in services:
        with suppress(FileUnusable):
            addresses = read_addresses(state_directory, service)
            at = addresses.metrics
            theirs = (served_date(f"http://{at}/") if at else None) or served_date(addresses.http_url)
            if theirs is not None:
                read.append((service, theirs - now))
    wrong = [(service, difference) for service, difference in read if abs(difference) > TOLERANCE]
    for service, difference in wrong:
        side = "ahead of" if difference > timedelta(0) else "behind"
        yield Finding(
            "clock",
            Severity.ERROR,
            f"the clock of {service.name} is {distance(abs(difference))} {side} this one",
            "set both clocks by NTP (timedatectl set-ntp true)",
        )
    if not read:
        message = "no service's clock could be read"
        yield Finding("clock", Severity.WARNING, message, "keyreeve up, then try again")
    elif not wrong:
        yield Finding("clock", Severity.OK, f"within {TOLERANCE.total_seconds():g} s of the services'")


def check_certificate(state_directory: StateDirectory, now: datetime) -> Iterator[Finding]:
    """Check that the operator's certificate is valid and leads to the bundle."""
    operator = find_operator(state_directory)
    if operator is None:
        yield Finding(
            "your certificate", Severity.ERROR, f"{state_directory.certificate} cannot be read", "keyreeve up"
        )
        return
    if now < operator.not_before:
        yield Finding(
            "your certificate",
            Severity.ERROR,
            f"it is not valid before {until(operator.not_before, now)}: this clock is behind the CA's",
            "set the clock by NTP (timedatectl set-ntp true)",
        )
    elif now > operator.not_after:
        yield Finding(
            "your certificate", Severity.ERROR, f"it expired at {until(operator.not_after, now)}", "keyreeve up"
        )
    elif operator.wants_renewal(now):
        yield Finding(
            "your certificate", Severity.WARNING, f"it expires at {until(operator.not_after, now)}", "keyreeve up"
        )
    else:
        yield Finding("your certificate", Severity.OK, f"valid until {until(operator.not_after, now)}")
    try:
        roots, presented = (
            load_pem(state_directory.bundle.read_text()),
            load_pem(state_directory.certificate.read_text()),
        )
        verify_for(roots, presented, None, min(max(now, operator.not_before), operator.not_after))
        yield Finding("trust", Severity.OK, "your certificate leads to the root in control-bundle.pem")
    except (OSError, ValueError, KeyreeveError) as problem:
        yield Finding("trust", Severity.ERROR, f"your certificate is not trusted: {problem}", "keyreeve up")
    for line, bundle in (("control", state_directory.bundle), ("estate", state_directory.estate_bundle)):
        yield from _check_roots(line, bundle, now)


def _check_roots(line: str, bundle: Path, now: datetime) -> Iterator[Finding]:
    try:
        roots = load_pem(bundle.read_text())
    except (OSError, ValueError) as problem:
        yield Finding(f"{line} bundle", Severity.ERROR, f"{bundle} cannot be read: {problem}", "keyreeve up")
        return
    first = min(root.not_valid_after_utc for root in roots)
    soon = first - now < timedelta(days=90)
    yield Finding(
        f"{line} bundle",
        Severity.WARNING if soon else Severity.OK,
        f"{len(roots)} root(s); the first expires at {until(first, now)}",
        "create and activate its successor: keyreeve authority create" if soon else "",
    )


def check_modes(state_directory: StateDirectory, services: Sequence[Service] = SERVICES) -> Iterator[Finding]:
    """Check that only the owner can read keys and settings, and replace them."""
    directories = [state_directory.root, *(state_directory.state(service.name) for service in services)]
    wrong = [
        (path, "go-w", "can be written by other users") for path in directories if path.is_dir() and _mode(path) & 0o022
    ]
    keys = [state_directory.key, *(state_directory.config(service.name) for service in services)]
    for service in services:
        state = state_directory.state(service.name)
        keys.append(EnrolleeFiles(identity_directory(state)).key)
        if state.is_dir():
            keys += [path for path in state.iterdir() if path.is_file() and path.suffix not in {".pem", ".sock"}]
    wrong += [(path, "go=", "can be read by other users") for path in keys if path.exists() and _mode(path) & 0o077]
    for path, change, what in wrong:
        yield Finding("file modes", Severity.ERROR, f"{path} {what}", f"chmod {change} '{path}'")
    if not wrong:
        yield Finding("file modes", Severity.OK, "only their owner can read keys and settings")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def check_by_service(state_directory: StateDirectory, service: Service) -> Iterator[Finding]:
    """Return the findings of a service's own `check` command, without the service's name."""
    try:
        rows = ask("check", state_directory.config(service.name), module=service.module)
    except (KeyreeveError, NotThereYet) as problem:
        yield Finding("", Severity.ERROR, str(problem) or "it does not answer", "keyreeve up")
        return
    for row in rows:
        fix = str(row.get("fix") or "")
        fine = Severity.WARNING if fix else Severity.OK
        yield Finding(str(row["check"]), fine if row["ok"] else Severity.ERROR, str(row["message"]), fix)
