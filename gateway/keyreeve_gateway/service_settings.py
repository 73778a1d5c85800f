"""Settings of the gateway service."""

from pathlib import Path

from pydantic import Field

from keyreeve_chassis.settings.sections import Section, ServerSettings


class ServiceAddresses(Section):
    """Where the services are that legacy commands become calls of."""

    membership: tuple[str, ...] = Field((), description="Addresses `host:port` of the membership service.")
    credentials: tuple[str, ...] = Field((), description="Addresses `host:port` of the credentials service.")


class SshSettings(Section):
    """SSH and SFTP."""

    host: str = Field("127.0.0.1", description="Address of the SSH listener.")
    port: int | None = Field(None, ge=0, le=65535, description="Its port; 0 lets the system choose, null: none.")
    host_name: str = Field("keyreeve", pattern=r"^[a-zA-Z0-9.-]{1,63}$", description="Name in the prompt of a shell.")
    login_seconds: float = Field(30, gt=0, description="Time in which a connection must have logged in.")
    connections: int = Field(1024, ge=1, description="Connections at once.")


class GatewaySettings(ServerSettings):
    """All settings; those of the commands are in a file of their own (docs/verbs.md)."""

    services: ServiceAddresses = Field(
        default_factory=ServiceAddresses, description="The services that legacy commands call."
    )
    legacy_file: Path | None = Field(
        None, description="File of the commands' settings; `legacy.toml` in the state directory unless given."
    )
    ssh: SshSettings = Field(default_factory=SshSettings, description="SSH and SFTP.")
