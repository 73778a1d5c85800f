"""The CA service's settings; docs/settings.md is generated from the descriptions."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, field_validator

from keyreeve.enrollment_token import is_address
from keyreeve_chassis.processes.cpus import usable_cpus
from keyreeve_chassis.settings.pools import ConnectionPlan
from keyreeve_chassis.settings.sections import (
    ApiServerSettings,
    DatabaseServerSettings,
    DatabaseSettings,
    HttpSettings,
    KeySettings,
    Section,
    host_port,
)
from keyreeve_chassis.settings.serving import ServingSettings

ENROLLED = ("membership", "credentials", "gateway", "workload", "member")
"""What a pod may become; the CA's processes certify themselves."""


class CaKeySettings(KeySettings):
    """The key-encryption key, and blocked keys."""

    recovery_file: Path | None = Field(
        None,
        description="Recovery key of the trust metadata; made in the state directory at the first start unless given, or, with "
        "`keys.mounted`, required for the first start alone.",
    )
    blocked_file: Path | None = Field(
        None, description="Text file of blocked keys: one SHA-256 of a DER SubjectPublicKeyInfo in hex on each line."
    )


class SigningSettings(Section):
    """The signing path (docs/signing.md)."""

    max_batch_delay_ms: float = Field(
        2,
        ge=0,
        le=100,
        description="Longest time, in milliseconds, for which a request waits to be signed together with others.",
    )


class LintSettings(Section):
    """Linting of what has been issued."""

    sample_rate: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of leaf certificates that are linted in the background, "
        "of at most the 1,000 newest every 5 s.",
    )
    halt_profile: bool = Field(default=False, description="Halt a profile when the sample has a finding.")


class IssuanceSettings(Section):
    """Issuance as a whole."""

    resume_needs_two: bool = Field(
        default=False, description="Resuming halted issuance takes two different people; use it in production."
    )


class OperatorSettings(Section):
    """The persons who operate the control plane."""

    two_persons: bool = Field(
        default=False,
        description="Inviting an admin, raising a role and removing an admin take two admins, who have been known for 7 days; "
        "use it in production.",
    )


class RetentionSettings(Section):
    """How long data is kept (docs/retention.md)."""

    expired_days: int | None = Field(
        None,
        ge=2,
        le=36_500,
        description="Days after their expiry for which certificates are kept; null: forever.",
    )
    session_days: int = Field(
        30, ge=2, le=36_500, description="Days after their end for which sessions of operators at gateways are kept."
    )


class BootstrapSettings(ApiServerSettings):
    """The first start, which makes the roots."""

    allowed: bool = Field(default=True, description="Whether a start on an empty database may make roots.")
    secret: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}$",
        description="`namespace/name` of a Secret of Kubernetes that remembers what was made, instead of the state directory: "
        "with it, an empty database is never taken for a first start again.",
    )


class KubernetesSettings(ApiServerSettings):
    """Enrollment of services by the ServiceAccounts of their pods (docs/kubernetes.md)."""

    accounts: dict[str, str] = Field(
        description="Which account may become what: `namespace/account: membership`, `credentials`, `gateway`, "
        "`workload` or `member`."
    )
    bundle: str | None = Field(
        None,
        pattern=r"^[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}$",
        description="`namespace/name` of the ConfigMap in which the CA publishes its roots; null: none.",
    )
    trust_bundle_signer: str | None = Field(
        None,
        pattern=r"^[a-z0-9.-]{1,253}/[a-z0-9.-]{1,63}$",
        description="Name of the signer under which the CA publishes the estate's roots as a ClusterTrustBundle "
        "(certificates.k8s.io/v1); null: none.",
    )
    audience: str | None = Field(
        None, description="Audience that their tokens must have; `keyreeve:` and the trust domain unless given."
    )

    @field_validator("accounts")
    @classmethod
    def _check_accounts(cls, value: dict[str, str]) -> dict[str, str]:
        for account, service in value.items():
            if not re.fullmatch(r"[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}", account):
                raise ValueError(f"{account}: `namespace/account` is required")
            if service not in ENROLLED:
                raise ValueError(f"{service}: one of {', '.join(ENROLLED)} is required")
        return value


class EnrollSettings(Section):
    """The enrollment listener, for callers without a certificate."""

    host: str = Field("127.0.0.1", description="Address of the listener.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; null: no listener, and no tokens are made.")
    address: str | None = Field(
        None, description="`host:port` at which enrollees reach it, as tokens say; its own address unless given."
    )
    ca_address: str | None = Field(
        None, description="`host:port` of the gRPC listener that enrollees are told; its own address unless given."
    )
    kubernetes: KubernetesSettings | None = Field(
        None, description="Enrollment by Kubernetes ServiceAccounts; null: off."
    )
    renew_expired_days: int = Field(
        7, ge=0, le=90, description="Days for which a known member may renew its expired certificate; 0: off."
    )
    calls_in_flight: int = Field(128, ge=1, description="Enrollments in progress at once in one process.")
    calls_per_address: int = Field(16, ge=1, description="Of these from one address (for IPv6: one /64).")
    calls_per_second: float = Field(20, gt=0, description="How often one address may begin one, for long.")
    calls_at_once: int = Field(100, ge=1, description="And after a pause.")
    connections: int = Field(512, ge=1, description="Connections to the listener at once in one process.")
    connections_per_address: int = Field(64, ge=1, description="Of these from one address (for IPv6: one /64).")

    @field_validator("address", "ca_address")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and not is_address(value):
            raise ValueError("host:port is required, an IPv6 address in brackets")
        return value

    @property
    def named_address(self) -> str | None:
        """The address that tokens name by default.

        None: there is no listener, or its port is not known in advance.
        """
        if self.port is None or self.address is not None:
            return None if self.port is None else self.address
        return host_port(self.host, self.port) if self.port else None

    def serving(self) -> ServingSettings:
        """The listener's limits: small messages, short connections."""
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
            connections_per_address=self.connections_per_address,
            deadline=10,
            stream_life=10,
            handshake_timeout=5,
            connection_age=60,
            connection_grace=10,
            connection_idle=20,
        )


class CaSettings(DatabaseServerSettings):
    """All settings of the CA service."""

    RENAMED: ClassVar[Mapping[str, str]] = {"enrol": "enroll"}

    state_directory: Path = Field(
        Path("ca"), description="Directory of mode 0700 for keys, sockets and the SQLite file."
    )
    database: DatabaseSettings = Field(
        default_factory=lambda: DatabaseSettings(url=SecretStr("sqlite:///ca.db")), description="The database."
    )
    keys: CaKeySettings = Field(default_factory=CaKeySettings, description="Keys.")
    http_url: str = Field(
        "http://127.0.0.1:8080",
        description="Base URL, as readers see it, that certificates name for revocation lists, the OCSP responder and issuers.",
    )
    workers: int | Literal["auto"] = Field(
        "auto", description="Worker processes; `auto`: one for each core that may be used."
    )
    worker_memory_bytes: int = Field(
        768 * 1024 * 1024,
        ge=64 * 1024 * 1024,
        description="A worker that has more memory of its own is replaced: its successor serves before it drains.",
    )
    bootstrap: BootstrapSettings = Field(default_factory=BootstrapSettings, description="The first start.")
    enroll: EnrollSettings = Field(default_factory=EnrollSettings, description="The enrollment listener.")
    signing: SigningSettings = Field(default_factory=SigningSettings, description="The signing path.")
    issuance: IssuanceSettings = Field(default_factory=IssuanceSettings, description="Issuance as a whole.")
    operators: OperatorSettings = Field(default_factory=OperatorSettings, description="Operators.")
    lint: LintSettings = Field(default_factory=LintSettings, description="Linting.")
    http: HttpSettings = Field(
        default_factory=HttpSettings,
        description="Plain HTTP for CRLs, OCSP, authorities' certificates and bundles; `http_url` is how readers see it.",
    )
    retention: RetentionSettings = Field(default_factory=RetentionSettings, description="Retention.")

    @property
    def connection_plan(self) -> ConnectionPlan:
        """What all replicas connect to PostgreSQL with: the coordinators and the workers, and half of what there is."""
        workers = usable_cpus() if self.workers == "auto" else self.workers
        return ConnectionPlan(self.database.replicas, pools=1 + workers, share=0.5, pool=self.database.pool)

    @field_validator("http_url")
    @classmethod
    def _check_http_url(cls, value: str) -> str:
        if not value.startswith("http://") or value.endswith("/") or not value.isascii():
            raise ValueError("an ASCII http:// URL without a final slash (revocation lists are signed, TLS would loop)")
        return value

    @property
    def recovery_key_file(self) -> Path:
        return self.keys.recovery_file or self.state_directory / "recovery.key"
