"""Settings of the gateway service."""

from pydantic import Field

from keyreeve_chassis.settings.sections import Section, ServerSettings


class ServiceAddresses(Section):
    """Where the services are that legacy commands become calls of."""

    membership: tuple[str, ...] = Field((), description="Addresses `host:port` of the membership service.")
    credentials: tuple[str, ...] = Field((), description="Addresses `host:port` of the credentials service.")


class GatewaySettings(ServerSettings):
    """All settings; those of the commands are in `legacy.toml` in the state directory (docs/verbs.md)."""

    services: ServiceAddresses = Field(
        default_factory=ServiceAddresses, description="The services that legacy commands call."
    )
