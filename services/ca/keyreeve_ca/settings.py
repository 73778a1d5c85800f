"""The CA service's settings; docs/settings.md is generated from the descriptions."""

import hashlib
import os
import socket
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from keyreeve.enrollment_token import is_address
from keyreeve.identity import is_trust_domain
from keyreeve_chassis.rpc.server import ServingSettings
from keyreeve_chassis.settings.loading import ServiceSettings

ENV_PREFIX = "KEYREEVE_CA_"
_MAX_SOCKET_PATH = 100


def host_port(host: str, port: int) -> str:
    """An address as clients write it: an IPv6 host stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseSettings(_Section):
    """Where the ledger is."""

    url: SecretStr = Field(
        SecretStr("sqlite:///ca.db"),
        description="sqlite:///PATH (relative to the state directory) or postgresql://...; secret, it may hold a password.",
    )
    migrate: Literal["auto", "never"] = Field(
        "auto", description="Whether a start migrates the schema; with `never` run `python -m keyreeve_ca migrate`."
    )


class KeySettings(_Section):
    """Where the key-encryption key is, and which keys nobody may use."""

    file: Path | None = Field(
        None, description="File of 32 bytes, mode 0600; made in the state directory at the first start unless given."
    )
    mounted: bool = Field(
        default=False, description="The file is a mounted secret: links and root's ownership are fine."
    )
    recovery_file: Path | None = Field(
        None,
        description="Recovery key of the trust metadata; made in the state directory at the first start unless given.",
    )
    blocked_file: Path | None = Field(
        None, description="Text file of blocked keys: one SHA-256 of a DER SubjectPublicKeyInfo in hex on each line."
    )


class SigningSettings(_Section):
    """How the workers run (docs/signing.md)."""

    pin: Literal["auto", "on", "off"] = Field(
        "auto", description="Keep each worker on one core; `auto`: where waking a thread on another core is dear."
    )
    gather_ms: float | Literal["auto"] = Field(
        "auto",
        description="Milliseconds for which a call waits for others while calls keep coming; `auto`: 2, or 8 where waking "
        "is dear.",
    )

    @field_validator("gather_ms")
    @classmethod
    def _check_gather(cls, value: float | Literal["auto"]) -> float | Literal["auto"]:
        if value != "auto" and not 0 <= value <= 100:
            raise ValueError("0 to 100 milliseconds, or auto")
        return value


class LintSettings(_Section):
    """Linting of what has been issued."""

    sample_rate: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of leaf certificates that are linted in the background, "
        "of at most the 1,000 newest every 5 s.",
    )
    halt_profile: bool = Field(default=False, description="Halt a profile when the sample has a finding.")


class IssuanceSettings(_Section):
    """Issuance as a whole."""

    resume_needs_two: bool = Field(
        default=False, description="Resuming halted issuance takes two different people; use it in production."
    )


class HttpSettings(_Section):
    """The plain-HTTP listener for revocation lists, authorities' certificates and bundles."""

    host: str = Field("127.0.0.1", description="Address of the listener; `http_url` is how its readers see it.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; null: no listener.")


class AuditSettings(_Section):
    """The audit log (docs/audit.md)."""

    kept_days: int = Field(
        400, ge=1, description="Days after which audit records are deleted; their hashes stay for ever."
    )
    file: Path | None = Field(
        None, description="File outside, such as on a disk of its own, to which the whole log is appended."
    )
    syslog: Path | None = Field(
        None, description="Socket such as /dev/log, to which each signed checkpoint is sent as one message."
    )
    sink_required: bool = Field(
        default=False,
        description="Refuse what changes anything while a sink outside does not take the log; set it in production.",
    )

    @model_validator(mode="after")
    def _check_sinks(self) -> "AuditSettings":
        if self.sink_required and self.file is None and self.syslog is None:
            raise ValueError("sink_required needs audit.file or audit.syslog")
        return self


class RetentionSettings(_Section):
    """How long the ledger remembers (docs/retention.md)."""

    expired_days: int | None = Field(
        None,
        ge=2,
        le=36_500,
        description="Days after their expiry for which certificates are kept; null: for ever, nothing is deleted unasked.",
    )


class MetricsSettings(_Section):
    """Prometheus."""

    host: str = Field("127.0.0.1", description="Address of the plain-HTTP listener for /metrics.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; null: no listener.")


class LogSettings(_Section):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is written."
    )
    calls: bool = Field(default=False, description="One line for each call that succeeds; failures always have one.")


class TracingSettings(_Section):
    """OpenTelemetry."""

    endpoint: str | None = Field(None, description="OTLP/gRPC endpoint; null: off. Needs the `otel` extra.")


class EnrollSettings(_Section):
    """The enrollment listener, where those enroll who have no certificate yet."""

    host: str = Field("127.0.0.1", description="Address of the listener.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; null: no listener, and no tokens are made.")
    address: str | None = Field(
        None, description="`host:port` at which enrollees reach it, as tokens say; its own address unless given."
    )
    ca_address: str | None = Field(
        None, description="`host:port` of the gRPC listener that enrollees are told; its own address unless given."
    )
    calls_in_flight: int = Field(128, ge=1, description="Enrollments in progress at once in one process.")
    calls_per_address: int = Field(16, ge=1, description="Of these from one address (for IPv6: one /64).")
    calls_per_second: float = Field(20, gt=0, description="How often one address may begin one, for long.")
    calls_at_once: int = Field(100, ge=1, description="And after a pause.")
    connections: int = Field(512, ge=1, description="Connections to the listener at once in one process.")

    @field_validator("address", "ca_address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and not is_address(value):
            raise ValueError("host:port is required, an IPv6 address in brackets")
        return value

    @property
    def named_address(self) -> str | None:
        """What tokens name when their makers do not say otherwise; None: there is no listener, or no telling its port."""
        if self.port is None or self.address is not None:
            return None if self.port is None else self.address
        return host_port(self.host, self.port) if self.port else None

    def serving(self) -> ServingSettings:
        """The listener's limits: small messages, short lives."""
        return ServingSettings(
            host=self.host,
            port=self.port or 0,
            health_port=None,
            reflection=False,
            request_bytes=32 * 1024,
            metadata_bytes=8 * 1024,
            calls_in_flight=self.calls_in_flight,
            streams_in_flight=self.calls_in_flight,
            streams_per_connection=8,
            deadline=10,
            stream_life=10,
            handshake_timeout=5,
            connection_age=60,
            connection_grace=10,
            connection_idle=20,
        )


class CaSettings(ServiceSettings):
    """Everything that can be set."""

    trust_domain: str = Field("dev.localhost", description="Trust domain; cannot change after the first start.")
    instance: str = Field(
        default_factory=lambda: socket.gethostname().lower()[:63] or "ca",
        description="Name of this instance in its own identity.",
    )
    state_directory: Path = Field(
        Path("ca"), description="Directory of mode 0700 for keys, sockets and the SQLite file."
    )
    http_url: str = Field(
        "http://127.0.0.1:8080",
        description="Base URL, as readers see it, that certificates name for revocation lists, the OCSP responder and issuers.",
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="Worker processes; `auto`: one for each core that may be used."
    )
    drain_seconds: float = Field(20, gt=0, description="How long calls in progress may take when the service stops.")
    listen: ServingSettings = Field(default_factory=ServingSettings, description="The gRPC listeners.")
    enroll: EnrollSettings = Field(default_factory=EnrollSettings, description="The enrollment listener.")
    database: DatabaseSettings = Field(default_factory=DatabaseSettings, description="The database.")
    keys: KeySettings = Field(default_factory=KeySettings, description="Keys.")
    signing: SigningSettings = Field(default_factory=SigningSettings, description="The signing path.")
    issuance: IssuanceSettings = Field(default_factory=IssuanceSettings, description="Issuance as a whole.")
    lint: LintSettings = Field(default_factory=LintSettings, description="Linting.")
    http: HttpSettings = Field(default_factory=HttpSettings, description="Plain HTTP.")
    audit: AuditSettings = Field(default_factory=AuditSettings, description="The audit log.")
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="Retention.")
    metrics: MetricsSettings = Field(default_factory=MetricsSettings, description="Metrics.")
    log: LogSettings = Field(default_factory=LogSettings, description="Logging.")
    tracing: TracingSettings = Field(default_factory=TracingSettings, description="Tracing.")

    @field_validator("trust_domain")
    @classmethod
    def _check_trust_domain(cls, value: str) -> str:
        if not is_trust_domain(value):
            raise ValueError("a trust domain is a lower-case DNS name")
        return value

    @field_validator("http_url")
    @classmethod
    def _check_http_url(cls, value: str) -> str:
        if not value.startswith("http://") or value.endswith("/") or not value.isascii():
            raise ValueError("an ASCII http:// URL without a final slash (revocation lists are signed, TLS would loop)")
        return value

    @property
    def kek_file(self) -> Path:
        return self.keys.file or self.state_directory / "kek"

    @property
    def recovery_key_file(self) -> Path:
        return self.keys.recovery_file or self.state_directory / "recovery.key"

    @property
    def run_directory(self) -> Path:
        """Sockets and metrics of the running processes."""
        return self.state_directory / "run"

    @property
    def coordinator_socket(self) -> Path:
        path = self.run_directory.absolute() / "coordinator.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
            return path
        # Linux allows 107 bytes; a deep state directory gets a short name of its own.
        name = hashlib.sha256(os.fsencode(self.state_directory.absolute())).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"keyreeve-{os.geteuid()}-{name}" / "coordinator.sock"

    @property
    def sqlite_file(self) -> Path | None:
        """The database file, or None when the database is PostgreSQL."""
        url = self.database.url.get_secret_value()
        if not url.startswith("sqlite:///"):
            return None
        return self.state_directory / url.removeprefix("sqlite:///")
