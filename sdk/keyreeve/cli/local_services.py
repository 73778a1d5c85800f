"""The services that `keyreeve up` runs on one machine, their ports, and the configuration it writes for them, once."""

import json
import random
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyreeve.cli.state_directory import StateDirectory, read_file, write_file
from keyreeve.errors import FileUnusable
from keyreeve.files import PRIVATE

LOOPBACK = "127.0.0.1"
DEFAULT_TRUST_DOMAIN = "dev.localhost"
DEFAULT_PORT = 7443
DEFAULT_DIRECTORY = ".keyreeve"


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its name, its module, and how far its ports lie from the first port of the control plane."""

    name: str
    module: str
    offset: int

    def arguments(self, state_directory: StateDirectory) -> list[str]:
        """The command that runs it in the foreground."""
        return [sys.executable, "-P", "-m", self.module, "run", "--config", str(state_directory.config(self.name))]

    @property
    def database_variable(self) -> str:
        """The variable of the environment that names its database."""
        return f"KEYREEVE_{self.name.upper()}_DATABASE__URL"

    def marker(self, state_directory: StateDirectory) -> str:
        """What the command line of its manager process holds and no other process of this machine does."""
        return f"{self.module} run --config {state_directory.config(self.name)}"


SERVICES = (Service("ca", "keyreeve_ca", 0),)

# The gRPC listeners of all services are neighbours; what each has beside it lies further on.
_PORTS = {"port": 0, "health_port": 10, "metrics_port": 20, "http_port": 30, "enroll_port": 40}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a service listens and what it says about itself, read back from its configuration file."""

    trust_domain: str
    host: str
    port: int
    health_port: int
    metrics_port: int
    http_url: str
    http_port: int | None
    """None: there is no plain-HTTP listener."""
    enroll_port: int | None
    """None: there is no listener for enrollees."""

    @property
    def ports(self) -> tuple[int, ...]:
        listening = (self.port, self.health_port, self.metrics_port)
        return (*listening, *(port for port in (self.http_port, self.enroll_port) if port is not None))

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.port}"


def read_addresses(state_directory: StateDirectory, service: Service) -> Addresses:
    """Read the configuration of a service, which a person may have changed. Raises `FileUnusable`."""
    path = state_directory.config(service.name)
    document = read_config(path)
    try:
        listen = document["listen"]
        return Addresses(
            trust_domain=str(document["trust_domain"]),
            host=str(listen["host"]),
            port=int(listen["port"]),
            health_port=int(listen["health_port"]),
            metrics_port=int(document["metrics"]["port"]),
            http_url=str(document["http_url"]),
            http_port=int(document["http"]["port"]) if "http" in document else None,
            enroll_port=int(document["enroll"]["port"]) if "enroll" in document else None,
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise FileUnusable(f"{path} lacks or misspells a setting that `keyreeve up` wrote: {problem}") from problem


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


def is_free(port: int) -> bool:
    """Say whether a listener on the loopback address could have this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose_ports(first: int, chance: random.Random, free: frozenset[int] | None = None) -> dict[str, int]:
    """Give each listener its usual port, counted from `first`, or another free one where that is taken.

    With `first` 0 all are chosen by chance. Others come from below the range from which the kernel takes the ports of
    outgoing connections, so that none is taken away before its listener opens. `free` replaces asking the kernel.
    """

    def usable(port: int) -> bool:
        return is_free(port) if free is None else port in free

    chosen: dict[str, int] = {}
    for name, offset in _PORTS.items():
        wanted = first + offset
        while first == 0 or wanted in chosen.values() or not usable(wanted):
            wanted = chance.randrange(20_000, 32_000)
            if wanted not in chosen.values() and usable(wanted):
                break
        chosen[name] = wanted
    return chosen


def write_config(
    state_directory: StateDirectory,
    service: Service,
    *,
    trust_domain: str,
    first_port: int,
    chance: random.Random,
    database: str = "",
) -> bool:
    """Write the configuration of a service unless it is there; say whether it was written.

    `database` is the URL of its database; SQLite in the service's own directory unless given.
    """
    path = state_directory.config(service.name)
    if path.exists():
        return False
    ports = choose_ports(first_port + service.offset if first_port else 0, chance)
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
http:
  host: {LOOPBACK}
  port: {ports["http_port"]}
http_url: http://{LOOPBACK}:{ports["http_port"]}
enroll:
  port: {ports["enroll_port"]}
state_directory: {json.dumps(str(state))}
database:
  url: {json.dumps(database or f"sqlite:///{service.name}.db")}
workers: 2
"""
    state.mkdir(mode=0o700, exist_ok=True)
    write_file(path, text.encode(), mode=PRIVATE)
    return True
