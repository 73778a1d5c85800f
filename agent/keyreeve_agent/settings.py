"""The agent's settings: one YAML file, read without the libraries of the services' settings (`keyreeve_agent.yaml`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from keyreeve.errors import ContextInvalid
from keyreeve_agent.programs.ports import LocalProgram, Probe, ProbeProtocol
from keyreeve_chassis.settings.strict_yaml import YamlRefused, read_strict_yaml

T = TypeVar("T")

DEFAULT_FILE = Path("/etc/keyreeve/agent.yaml")
_KEYS = {
    "address",
    "listen",
    "external_names",
    "release",
    "state_directory",
    "programs",
    "sessions",
    "endpoints",
    "log_level",
}
_PROGRAM_KEYS = {"name", "reload", "timeout", "probe", "directory", "owner"}


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What an administrator says about this server."""

    address: str
    """The host and port that other members dial."""
    state_directory: Path
    listen: str
    """The host and port of the peer port; `address` unless given."""
    release: str
    """The release of the server's product: members have the same first two numbers."""
    external_names: tuple[str, ...] = ()
    programs: tuple[LocalProgram, ...] = ()
    sessions: tuple[str, ...] = ()
    """A command that prints the numbers of running and of suspended sessions, or `stopped`; none: unknown."""
    endpoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses of services that the enrollment did not tell, or that have changed."""
    log_level: str = "info"

    @property
    def control(self) -> Path:
        """The directory of the control certificate."""
        return self.state_directory / "control"

    @property
    def peer(self) -> Path:
        """The directory of the peer material."""
        return self.state_directory / "peer"

    @property
    def status_file(self) -> Path:
        """What the agent writes for `status`."""
        return self.state_directory / "status.json"

    @property
    def enrollment_file(self) -> Path:
        """The address of the enrollment listener that the token named."""
        return self.state_directory / "enrollment-address"

    @property
    def lock_file(self) -> Path:
        """Held by the running agent."""
        return self.state_directory / "agent.lock"


def load_settings(path: Path) -> AgentSettings:
    """Read the settings. Raises `ContextInvalid` with the key that is wrong."""
    try:
        found = read_strict_yaml(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, YamlRefused) as failure:
        raise ContextInvalid(f"cannot read the settings in {path}: {failure}") from None
    if not isinstance(found, Mapping):
        raise ContextInvalid(f"{path}: a mapping is required")
    return settings_of(found, path.parent)


def settings_of(found: Mapping[str, Any], directory: Path) -> AgentSettings:
    """Read settings from plain values; relative paths begin at `directory`. Raises `ContextInvalid`."""
    _refuse_unknown(found, _KEYS, "")
    address = _address(found, "address")
    return AgentSettings(
        address=address,
        state_directory=directory / _text(found, "state_directory", "/var/lib/keyreeve-agent"),
        listen=_address(found, "listen") if "listen" in found else address,
        release=_text(found, "release", "0.0"),
        external_names=_texts(found, "external_names"),
        programs=tuple(_program(one, directory) for one in _list(found, "programs")),
        sessions=_texts(found, "sessions"),
        endpoints=_endpoints(found.get("endpoints", {})),
        log_level=_text(found, "log_level", "info"),
    )


def _program(found: object, directory: Path) -> LocalProgram:
    if not isinstance(found, Mapping):
        raise ContextInvalid("programs: each is a mapping")
    name = _text(found, "name")
    where = f"programs.{name}"
    _refuse_unknown(found, _PROGRAM_KEYS, f"{where}.")
    reload = _texts(found, "reload")
    if not reload:
        raise ContextInvalid(f"{where}.reload: a command is required")
    timeout = found.get("timeout", 10)
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not 0 < timeout <= 300:
        raise ContextInvalid(f"{where}.timeout: a number of seconds up to 300 is required")
    probe = found.get("probe")
    return LocalProgram(
        name,
        reload,
        float(timeout),
        None if probe is None else _probe(probe, f"{where}.probe"),
        directory / _text(found, "directory") if "directory" in found else None,
        _text(found, "owner") if "owner" in found else None,
    )


def _probe(found: object, where: str) -> Probe:
    if not isinstance(found, Mapping):
        raise ContextInvalid(f"{where}: a mapping is required")
    _refuse_unknown(found, {"address", "protocol"}, f"{where}.")
    protocol = _text(found, "protocol", ProbeProtocol.TLS.value)
    if protocol not in {one.value for one in ProbeProtocol}:
        raise ContextInvalid(f"{where}.protocol: one of {', '.join(ProbeProtocol)} is required")
    return Probe(_address(found, "address"), ProbeProtocol(protocol))


def _endpoints(found: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, Mapping):
        raise ContextInvalid("endpoints: a mapping of services to lists of addresses is required")
    return {str(service): _texts(found, service) for service in found}


def _address(found: Mapping[str, Any], key: str) -> str:
    text = _text(found, key)
    host, separator, port = text.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and 0 <= int(port) <= 65535):
        raise ContextInvalid(f"{key}: host:port is required, not {text!r}")
    return text


def _text(found: Mapping[str, Any], key: str, default: str | None = None) -> str:
    value = found.get(key, default)
    if not isinstance(value, str) or not value:
        raise ContextInvalid(f"{key}: a text is required")
    return value


def _texts(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _list(found, key)
    if not all(isinstance(one, str) and one for one in values):
        raise ContextInvalid(f"{key}: a list of texts is required")
    return tuple(values)


def _list(found: Mapping[str, Any], key: str) -> Sequence[Any]:
    values = found.get(key, [])
    if not isinstance(values, list):
        raise ContextInvalid(f"{key}: a list is required")
    return values


def _refuse_unknown(found: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in found:
        if key not in known:
            raise ContextInvalid(f"{prefix}{key}: there is no such setting; known are {', '.join(sorted(known))}")
