"""Sections of settings that services share."""

import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from keyreeve.identity import is_trust_domain
from keyreeve_chassis.settings.loading import ServiceSettings
from keyreeve_chassis.settings.pools import LARGEST_POOL, ConnectionPlan
from keyreeve_chassis.settings.serving import ServingSettings

_MAX_SOCKET_PATH = 100
"""Bytes. Linux allows 107 (unix(7)); temporary names beside the socket need some of them."""
_SQLITE = "sqlite:///"


class Section(BaseModel):
    """The base of a section."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(Section):
    """The service's database."""

    url: SecretStr = Field(
        description="sqlite:///PATH (relative to the state directory), postgresql://... or libpq's key=value form, with several "
        "hosts too; secret, it may hold a password."
    )
    direct_url: SecretStr | None = Field(
        None,
        description="PostgreSQL without a pooler in between, for migrations, session locks and notifications. Given: `url` is that "
        "of a pooler in transaction mode, such as PgBouncer.",
    )
    migrate: Literal["auto", "never"] = Field(
        "auto", description="Whether a start migrates the schema; with `never` run the service's `migrate` command."
    )
    verify_tls: bool = Field(
        default=False,
        description="Refuse a URL of PostgreSQL unless `sslmode=verify-full` is in it, or in PGSSLMODE and no other in it.",
    )
    replicas: int = Field(
        1, ge=1, description="Replicas of the service, which share what PostgreSQL's `max_connections` allows."
    )
    pool: int | None = Field(
        None,
        ge=1,
        le=LARGEST_POOL,
        description="Connections in the pool of each process; null: as many as fit, at most four.",
    )

    @property
    def pooled(self) -> bool:
        """Whether a pooler in transaction mode is in front of `url`."""
        return self.direct_url is not None


class KeySettings(Section):
    """The key-encryption key."""

    file: Path | None = Field(
        None, description="File of 32 bytes, mode 0600; made in the state directory at the first start unless given."
    )
    mounted: bool = Field(
        default=False, description="The file is a mounted secret: links and root's ownership are fine."
    )


class ServiceAccountSettings(Section):
    """Enrollment of a service by the ServiceAccount of its Kubernetes pod (docs/kubernetes.md)."""

    address: str = Field(description="`host:port` of the CA's enrollment listener.")
    bundle_file: Path = Field(description="PEM of the roots of the control hierarchy.")
    token_file: Path = Field(
        Path("/var/run/secrets/keyreeve/token"), description="Projected token whose audience is the CA's."
    )


class ApiServerSettings(Section):
    """How the API server of Kubernetes is reached."""

    api_url: str = Field("https://kubernetes.default.svc", description="The API server.")
    api_ca_file: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"), description="PEM of the CA of the API server."
    )
    api_token_file: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="Token with which the service calls the API server; read again for each call.",
    )


class HttpSettings(Section):
    """A plain-HTTP listener."""

    host: str = Field("127.0.0.1", description="Address of the listener.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; null: no listener.")
    connections: int = Field(
        512, ge=1, description="Connections at once; beyond it the one that waits longest is closed."
    )
    connections_per_address: int = Field(128, ge=1, description="Of these from one address (for IPv6: one /64).")


class AuditSettings(Section):
    """The audit log (docs/audit.md)."""

    kept_days: int = Field(
        400, ge=1, description="Days after which audit records are deleted; their hashes are kept forever."
    )
    file: Path | None = Field(
        None, description="File outside, such as on a disk of its own, to which the whole log is appended."
    )
    syslog: Path | None = Field(
        None, description="Socket such as /dev/log, to which each signed checkpoint is sent as one message."
    )
    stdout: bool = Field(
        default=False,
        description="Write each signed checkpoint to standard output, as one line of JSON, for a collector of containers' output.",
    )
    sink_required: bool = Field(
        default=False,
        description="Refuse every change, and every read of a secret, while a sink outside does not take the log; set it in "
        "production.",
    )

    @model_validator(mode="after")
    def _check_sinks(self) -> "AuditSettings":
        if self.sink_required and self.file is None and self.syslog is None and not self.stdout:
            raise ValueError("sink_required needs audit.file, audit.syslog or audit.stdout")
        return self


class MetricsSettings(Section):
    """Prometheus."""

    host: str = Field("127.0.0.1", description="Address of the plain-HTTP listener for /metrics.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; null: no listener.")


class LogSettings(Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is written."
    )
    calls: bool = Field(default=False, description="One line for each call that succeeds; failures always have one.")


class TracingSettings(Section):
    """OpenTelemetry."""

    endpoint: str | None = Field(None, description="OTLP/gRPC endpoint; null: off. Needs the `otel` extra.")


class ServerSettings(ServiceSettings):
    """The settings of every service, with or without a database."""

    trust_domain: str = Field("dev.localhost", description="Trust domain; cannot change after the first start.")
    instance: str = Field(
        default_factory=lambda: socket.gethostname().lower()[:63] or "one",
        description="Name of this instance in its own identity.",
    )
    state_directory: Path = Field(description="Directory of mode 0700 for keys, sockets and the SQLite file.")
    service_account: ServiceAccountSettings | None = Field(
        None, description="How a service other than the CA enrolls in Kubernetes; null: with an enrollment token."
    )
    drain_seconds: float = Field(20, gt=0, description="How long calls in progress may take when the service stops.")
    listen: ServingSettings = Field(default_factory=ServingSettings, description="The gRPC listeners.")
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Metrics.")
    log: LogSettings = Field(default_factory=LogSettings, description="Logging.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="Tracing.")

    @field_validator("trust_domain")
    @classmethod
    def _check_trust_domain(cls, value: str) -> str:
        if not is_trust_domain(value):
            raise ValueError("a trust domain is a lower-case DNS name")
        return value

    @property
    def run_directory(self) -> Path:
        """Directory of the sockets and metrics of the running processes."""
        return self.state_directory / "run"

    @property
    def coordinator_socket(self) -> Path:
        """The local admin socket, which the service's processes use too."""
        path = self.run_directory.absolute() / "coordinator.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
            return path
        # A deep state directory gets a short name of its own, where other users cannot make it first if there is such a place.
        name = hashlib.sha256(os.fsencode(self.state_directory.absolute())).hexdigest()[:16]
        return _runtime_directory() / f"keyreeve-{os.geteuid()}-{name}" / "coordinator.sock"


def _runtime_directory() -> Path:
    """The user's runtime directory (XDG Base Directory Specification), or else the directory of temporary files."""
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.geteuid()}"):
        path = Path(place)
        try:
            status = path.stat()
        except OSError:
            continue
        if path.is_absolute() and status.st_uid == os.geteuid() and not status.st_mode & 0o077:
            return path
    return Path(tempfile.gettempdir())


class DatabaseServerSettings(ServerSettings):
    """The settings of every service with a database."""

    database: DatabaseSettings = Field(description="The database.")
    keys: KeySettings = Field(default_factory=KeySettings, description="Keys.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="The audit log.")

    @property
    def kek_file(self) -> Path:
        """The file of the key-encryption key."""
        return self.keys.file or self.state_directory / "kek"

    @property
    def connection_plan(self) -> ConnectionPlan:
        """What all replicas of the service connect to PostgreSQL with."""
        return ConnectionPlan(self.database.replicas, pools=1, share=0.25, pool=self.database.pool)

    @property
    def sqlite_file(self) -> Path | None:
        """The SQLite file, or None on PostgreSQL."""
        url = self.database.url.get_secret_value()
        if not url.startswith(_SQLITE):
            return None
        return self.state_directory / url.removeprefix(_SQLITE)

    @property
    def direct_url(self) -> str:
        """The database URL for what a pooler in transaction mode cannot do."""
        direct = self.database.direct_url or self.database.url
        return direct.get_secret_value()


def host_port(host: str, port: int) -> str:
    """An address as clients write it: an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
