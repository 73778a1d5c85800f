"""The CA's `ServiceSpec`. Imports each process's modules only in that process."""

from collections.abc import Coroutine, Sequence
from typing import Any

from keyreeve_ca.settings import CaSettings
from keyreeve_chassis.local_admin.findings import Finding
from keyreeve_chassis.service import Role, ServiceSpec


class CaMigrations:
    """The `migrate` command."""

    def migrate(self, settings: CaSettings, *, expand: bool = False) -> None:
        """See `Migrations.migrate`."""
        from keyreeve_ca import coordinator

        coordinator.migrate(settings, expand=expand)

    def remove(self, settings: CaSettings) -> list[str]:
        """See `Migrations.remove`."""
        from keyreeve_ca import app

        return app.remove(settings)


def _run_coordinator(_spec: object, settings: CaSettings, _index: int) -> Coroutine[Any, Any, None]:
    from keyreeve_ca.coordinator import coordinator

    return coordinator(settings)


def _run_worker(_spec: object, settings: CaSettings, index: int) -> Coroutine[Any, Any, None]:
    from keyreeve_ca.worker import worker

    return worker(settings, index)


def _look(settings: CaSettings) -> Sequence[Finding]:
    from keyreeve_ca.app import look

    return look(settings)


SPEC: ServiceSpec[CaSettings, Any] = ServiceSpec(
    name="ca",
    settings=CaSettings,
    roles=(Role("coordinator", _run_coordinator), Role("worker", _run_worker)),
    schema=CaMigrations(),
    look=_look,
)
