"""The key of a new audit log, when several processes start for the first time at once."""

import asyncio
import threading
from contextlib import suppress

from keyreeve_ca.store.audit_tables import AUDIT
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.keys.key_types import KeyType
from keyreeve_chassis.keys.ports import SealedKey
from keyreeve_chassis.keys.sealed import SealedKeyStore
from support.databases import CaDatabase


class Racing(SealedKeyStore):
    """Makes a key once two processes want one, or after a moment."""

    def __init__(self) -> None:
        super().__init__(b"k" * 32, "test")
        self.both = threading.Barrier(2)

    def generate(self, key_type: KeyType) -> SealedKey:
        with suppress(threading.BrokenBarrierError):
            self.both.wait(0.5)
        return super().generate(key_type)


async def test_replicas_that_start_at_once_have_one_audit_key(postgresql_database: CaDatabase) -> None:
    keystore = Racing()
    logs = [SqlAuditLog(AUDIT, writer, writer) for writer in (postgresql_database.database() for _ in range(2))]
    first, second = await asyncio.gather(*(log.signer(keystore) for log in logs))
    assert first.spki == second.spki == await logs[0].spki()
