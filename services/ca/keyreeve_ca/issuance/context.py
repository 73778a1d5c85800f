"""The CA's part of every process: the store, the keys and the signing path."""

from collections.abc import Callable
from dataclasses import dataclass

from keyreeve_ca.issuance.service import Issuance
from keyreeve_ca.issuance.snapshot import LiveSnapshot
from keyreeve_ca.settings import CaSettings
from keyreeve_ca.store.ports import Store
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.changes.topics import Topics
from keyreeve_chassis.keys.ports import KeyStore
from keyreeve_chassis.trust_tables.watching import TrustWatch


@dataclass(frozen=True)
class CaContext:
    """The store, the keys and the signing path of one process."""

    settings: CaSettings
    store: Store
    keystore: KeyStore
    live: LiveSnapshot
    issuance: Issuance
    now: Callable[[], int]
    audit: SqlAuditLog
    trust: TrustWatch
    """What this process knows of altered trust tables."""
    topics: Topics
    """Tells followers of the database when to read."""

    @property
    def url(self) -> str:
        """Base URL in certificates."""
        return self.settings.http_url
