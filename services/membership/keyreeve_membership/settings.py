"""Settings of the membership service."""

from pydantic import Field

from keyreeve_chassis.settings.sections import DatabaseServerSettings, Section


class RollSettings(Section):
    """How members report."""

    report_seconds: int = Field(30, ge=1, le=3600, description="How often agents report their status.")
    lost_seconds: int = Field(
        120, ge=1, le=86_400, description="Age of a member's last report from which the member counts as unreachable."
    )
    certificates_per_second: float = Field(
        50.0,
        gt=0,
        le=10_000,
        description="Budget for peer certificates; beyond half of it, servers with little time left come first.",
    )
    join_seconds: int = Field(
        600, ge=1, le=86_400, description="Time in which a joining server has to be ready; then the join is undone."
    )


class MembershipSettings(DatabaseServerSettings):
    """All settings."""

    roll: RollSettings = Field(default_factory=RollSettings, description="How members report.")
