"""The services that `keyreeve up` runs, their ports, and their settings files."""

import json
import os
import random
import socket
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyreeve.cli.supervision.state_directory import StateDirectory, read_file, write_file
from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE
from keyreeve.targets import is_loopback

LOOPBACK = "127.0.0.1"
UNIX = "unix:"
DEFAULT_TRUST_DOMAIN = "dev.localhost"
DEFAULT_PORT = 7443
DEFAULT_DIRECTORY = ".keyreeve"


@dataclass(frozen=True, slots=True)
class Service:
    """A service: its name, its module, and the offset of its ports.

    The offset is from the ports of the CA.
    """

    name: str
    module: str
    offset: int
    has_database: bool = True
    solo: bool = True
    """It is one process, without workers."""
    calls: tuple[str, ...] = ()
    """Services before it whose addresses are in its settings."""
    has_ssh: bool = False
    told_of_restarts_by: str = ""
    """The service before it that knows of restarts of members."""

    @property
    def is_ca(self) -> bool:
        """Whether it is the CA: it starts first and lets the other services in."""
        return self.name == "ca"

    def arguments(self, state_directory: StateDirectory) -> list[str]:
        """The command that runs it in the foreground."""
        return [sys.executable, "-P", "-m", self.module, "run", "--config", str(state_directory.config(self.name))]

    @property
    def database_variable(self) -> str:
        """The environment variable that names its database."""
        return f"KEYREEVE_{self.name.upper()}_DATABASE__URL"

    def marker(self, state_directory: StateDirectory) -> str:
        """Text that only the command line of its manager process contains."""
        return f"{self.module} run --config {state_directory.config(self.name)}"


SERVICES = (
    Service("ca", "keyreeve_ca", 0, solo=False),
    Service("membership", "keyreeve_membership", 1),
    Service("credentials", "keyreeve_credentials", 2, told_of_restarts_by="membership"),
    Service("gateway", "keyreeve_gateway", 3, has_database=False, calls=("membership", "credentials"), has_ssh=True),
)
"""The services of a control plane on one machine."""


def ca_of(services: Sequence[Service]) -> Service:
    """The CA among the services of a control plane."""
    [ca] = [service for service in services if service.is_ca]
    return ca


# The gRPC ports of all services are consecutive; their other ports follow at a distance.
_PORTS = {"port": 0, "health_port": 10, "metrics_port": 20}
_SSH_PORTS = _PORTS | {"ssh_port": 50}
_CA_PORTS = _PORTS | {"http_port": 30, "enroll_port": 40}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a service listens and its trust domain, read from its settings file."""

    trust_domain: str
    host: str
    port: int
    health_port: int | None
    """None: there is no health listener, or `health_host` is a socket in the file system."""
    metrics_port: int | None
    http_url: str
    """Base URL of its plain-HTTP listener; empty: there is none."""
    http_port: int | None
    """None: there is no plain-HTTP listener."""
    enroll_port: int | None
    """None: there is no enrollment listener."""
    health_host: str = LOOPBACK
    """Where its health is asked; also `unix:PATH`."""
    metrics_host: str = LOOPBACK
    ssh_port: int | None = None
    """None: there is no SSH listener."""

    @property
    def ports(self) -> tuple[int, ...]:
        others = (self.health_port, self.metrics_port, self.http_port, self.enroll_port, self.ssh_port)
        return (self.port, *(port for port in others if port is not None))

    @property
    def endpoint(self) -> str:
        return address_of(self.host, self.port)

    @property
    def health(self) -> str | None:
        """The gRPC target of its health listener; None where there is none."""
        if self.health_host.startswith(UNIX):
            return self.health_host
        return None if self.health_port is None else address_of(self.health_host, self.health_port)

    @property
    def metrics(self) -> str | None:
        return None if self.metrics_port is None else address_of(self.metrics_host, self.metrics_port)


def dialed(host: str) -> str:
    """Return the address at which a listener on this machine is reached: its own, or loopback if it has them all."""
    return {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host)  # noqa: S104  # compared, not bound


def address_of(host: str, port: int) -> str:
    """Return `host:port` of a listener on this machine, as clients write it."""
    host = dialed(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _section(document: Mapping[str, Any], service: Service, name: str) -> dict[str, Any]:
    """Return a section of the settings in force: the file's, and over it the environment's."""
    found = dict(document.get(name) or {})
    prefix = f"KEYREEVE_{service.name.upper()}_{name.upper()}__"
    for key in ("host", "port", "health_host", "health_port"):
        if value := os.environ.get(prefix + key.upper()):
            found[key] = value
    return found


def read_addresses(state_directory: StateDirectory, service: Service) -> Addresses:
    """Read the settings file of a service, which the user may have changed.

    Raises `FileUnusable`.
    """
    path = state_directory.config(service.name)
    document = read_config(path)
    try:
        listen = _section(document, service, "listen")
        metrics = _section(document, service, "metrics")
        http = _section(document, service, "http")
        enroll = _section(document, service, "enroll") or dict(document.get("enrol") or {})  # the earlier name
        http_url = os.environ.get(f"KEYREEVE_{service.name.upper()}_HTTP_URL") or (
            document["http_url"] if service.is_ca else document.get("http_url", "")
        )
        health_host, health_port = str(listen.get("health_host", LOOPBACK)), _port(listen["health_port"])
        is_socket = health_host.startswith(UNIX)
        return Addresses(
            trust_domain=str(document["trust_domain"]),
            host=str(listen["host"]),
            port=int(listen["port"]),
            health_port=None if is_socket else health_port,
            metrics_port=_port(metrics["port"]),
            http_url=str(http_url),
            http_port=_port(http.get("port")),
            enroll_port=_port(enroll.get("port")),
            health_host=LOOPBACK if is_socket and health_port is None else health_host,
            metrics_host=str(metrics.get("host", LOOPBACK)),
            ssh_port=_port((document.get("ssh") or {}).get("port")),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise FileUnusable(f"{path} lacks or misspells a setting that `keyreeve up` wrote: {problem}") from problem


def _port(value: object) -> int | None:
    return None if value in (None, "null") else int(str(value))


def stale_addresses(state_directory: StateDirectory, service: Service, endpoints: Mapping[str, str]) -> Iterator[str]:
    """Say where the settings of a service name an address on this machine that another service no longer has."""
    path = state_directory.config(service.name)
    document = read_config(path)
    named = {f"services.{name}": (name, (document.get("services") or {}).get(name)) for name in service.calls}
    told = service.told_of_restarts_by
    named["vault.membership_address"] = told, (document.get("vault") or {}).get("membership_address")
    for setting, (name, value) in named.items():
        addresses = [value] if isinstance(value, str) else list(value or ())
        if name in endpoints and addresses and endpoints[name] not in addresses and all(map(is_loopback, addresses)):
            yield f"{service.name}: {setting} in {path} is {', '.join(addresses)}, but {name} listens on {endpoints[name]}"


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML document that is a mapping. Raises `FileUnusable`."""
    import yaml

    try:
        document = yaml.safe_load(read_file(path))
    except yaml.YAMLError as problem:
        raise FileUnusable(f"{path} is not YAML: {' '.join(str(problem).split())}") from problem
    if not isinstance(document, dict):
        raise FileUnusable(f"{path} does not hold a mapping of settings")
    return document


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Say whether a listener on an address of this machine could have this port now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def choose_ports(
    first: int,
    rng: random.Random,
    free: frozenset[int] | None = None,
    *,
    offsets: Mapping[str, int] = _CA_PORTS,
    taken: Collection[int] = (),
) -> dict[str, int]:
    """Choose a port for each listener: the usual one from `first`, or a free one.

    With `first` 0 all are chosen at random. Replacements come from below the range from which the kernel takes the ports
    of outgoing connections, so that none is taken before its listener opens. `free` replaces asking the kernel; `taken`
    are ports of other services that may not run yet.
    """

    def usable(port: int) -> bool:
        return port not in taken and (is_free(port) if free is None else port in free)

    chosen: dict[str, int] = {}
    for name, offset in offsets.items():
        port = first + offset
        while first == 0 or port in chosen.values() or not usable(port):
            port = rng.randrange(20_000, 32_000)
            if port not in chosen.values() and usable(port):
                break
        chosen[name] = port
    return chosen


def write_config(
    state_directory: StateDirectory,
    service: Service,
    *,
    trust_domain: str,
    first_port: int,
    rng: random.Random,
    database: str = "",
    taken: Collection[int] = (),
    endpoints: Mapping[str, str] | None = None,
) -> bool:
    """Write the settings file of a service unless it exists.

    Returns whether it was written.

    `database` is the URL of its database; SQLite in the service's own directory unless given. `taken` are ports that
    other services of this control plane have been given, `endpoints` their addresses.
    """
    path = state_directory.config(service.name)
    if path.exists():
        return False
    first = first_port + service.offset if first_port else 0
    offsets = _CA_PORTS if service.is_ca else _SSH_PORTS if service.has_ssh else _PORTS
    ports = choose_ports(first, rng, offsets=offsets, taken=taken)
    state = state_directory.state(service.name)
    text = f"""\
# Written once by `keyreeve up`; change it as you like and start again (`keyreeve down`, `keyreeve up`).
# `keyreeve settings` shows every setting in force and where each comes from.
trust_domain: {json.dumps(trust_domain)}
listen:
  host: {LOOPBACK}
  port: {ports["port"]}
  health_port: {ports["health_port"]}
metrics:
  port: {ports["metrics_port"]}
state_directory: {json.dumps(str(state))}
"""
    if service.has_database:
        text += f"""\
database:
  url: {json.dumps(database or f"sqlite:///{service.name}.db")}
"""
    if service.has_ssh:
        text += f"ssh:\n  port: {ports['ssh_port']}\n"
    known = {name: at for name, at in (endpoints or {}).items() if name in service.calls}
    if known:
        text += "services:\n" + "".join(f"  {name}: [{json.dumps(at)}]\n" for name, at in known.items())
    if restarts := (endpoints or {}).get(service.told_of_restarts_by):
        text += f"vault:\n  membership_address: {json.dumps(restarts)}\n"
    text += _CA_SETTINGS.format(**ports, host=LOOPBACK) if service.is_ca else "instance: local\n"
    state.mkdir(mode=0o700, exist_ok=True)
    write_file(path, text.encode(), mode=PRIVATE)
    return True


_CA_SETTINGS = """\
http:
  host: {host}
  port: {http_port}
http_url: http://{host}:{http_port}
enroll:
  port: {enroll_port}
workers: 2
"""
