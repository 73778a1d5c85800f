"""Publishes the roots of both hierarchies in a ConfigMap: what a pod trusts before it has a certificate."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from keyreeve.errors import StoreUnavailable
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.operators.first_operator import roots_pem
from keyreeve_ca.profiles.profile import Hierarchy

LOOK_SECONDS = 5.0
"""How often the ConfigMap is compared, since it may have been deleted."""
FILES = {Hierarchy.CONTROL: "control.pem", Hierarchy.ESTATE: "estate.pem"}

log = logging.getLogger(__name__)


class ConfigMaps(Protocol):
    """The API for ConfigMaps."""

    async def write_config_map(self, namespace: str, name: str, data: Mapping[str, str]) -> bool:
        """Make a ConfigMap hold these texts; say whether it did not. Raises `StoreUnavailable`."""
        ...


@dataclass(frozen=True)
class BundlePublisher:
    """Keeps one ConfigMap up to date."""

    config_maps: ConfigMaps
    namespace: str
    name: str
    snapshot: Callable[[], IssuanceSnapshot]
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Publish now, and again whenever the roots or the ConfigMap change. Forever."""
        while True:
            try:
                await self.publish()
            except StoreUnavailable as failure:
                log.warning("the bundle is not published: %s", failure.message)
            await self.pause(LOOK_SECONDS)

    async def publish(self) -> None:
        """Write the roots if the ConfigMap does not hold them. Raises `StoreUnavailable`."""
        data = {file: roots_pem(self.snapshot(), hierarchy).decode() for hierarchy, file in FILES.items()}
        if await self.config_maps.write_config_map(self.namespace, self.name, data):
            log.info("published the bundle in the ConfigMap %s/%s", self.namespace, self.name)
