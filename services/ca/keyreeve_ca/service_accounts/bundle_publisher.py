"""Publishes the roots of both hierarchies in the cluster: what a pod trusts before it has a certificate."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from keyreeve.errors import StoreUnavailable
from keyreeve.values import Hierarchy
from keyreeve_ca.issuance.snapshot import IssuanceSnapshot
from keyreeve_ca.operators.first_operator import roots_pem

LOOK_SECONDS = 5.0
"""How often what is published is compared, since it may have been deleted."""
FILES = {Hierarchy.CONTROL: "control.pem", Hierarchy.ESTATE: "estate.pem"}

log = logging.getLogger(__name__)


class Bundles(Protocol):
    """The API for what bundles are published in."""

    async def write_config_map(self, namespace: str, name: str, data: Mapping[str, str]) -> bool:
        """Make a ConfigMap hold these texts; say whether it did not. Raises `StoreUnavailable`."""
        ...

    async def write_trust_bundle(self, signer: str, pem: str) -> bool:
        """Make a ClusterTrustBundle of the signer hold these certificates; say whether it did not. Raises `StoreUnavailable`."""
        ...


@dataclass(frozen=True)
class BundlePublisher:
    """Keeps a ConfigMap and a ClusterTrustBundle up to date."""

    bundles: Bundles
    config_map: str | None
    """`namespace/name`."""
    signer: str | None
    """Of the ClusterTrustBundle, which holds the estate's roots."""
    snapshot: Callable[[], IssuanceSnapshot]
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self) -> None:
        """Publish now, and again whenever the roots or what is published change. Forever."""
        while True:
            try:
                await self.publish()
            except StoreUnavailable as failure:
                log.warning("the bundle is not published: %s", failure.message)
            await self.pause(LOOK_SECONDS)

    async def publish(self) -> None:
        """Write the roots where they are missing. Raises `StoreUnavailable`."""
        data = {file: roots_pem(self.snapshot(), hierarchy).decode() for hierarchy, file in FILES.items()}
        if self.config_map is not None:
            namespace, _, name = self.config_map.partition("/")
            if await self.bundles.write_config_map(namespace, name, data):
                log.info("published the bundle in the ConfigMap %s", self.config_map)
        if self.signer is not None and await self.bundles.write_trust_bundle(
            self.signer, data[FILES[Hierarchy.ESTATE]]
        ):
            log.info("published the estate's roots in the ClusterTrustBundle of %s", self.signer)
