"""`epochs.ports.EpochRecords` on both databases."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Connection, Row, Select, select

from keyreeve_chassis.database.transactions import touch
from keyreeve_chassis.trust_tables.sql import SqlTrust
from keyreeve_membership.epochs.ports import EPOCHS, AuthorityUse, BundleAuthority, Epoch
from keyreeve_membership.store.tables import SERVICE_TABLES, epochs


class SqlEpochs:
    """The epochs in one transaction."""

    def __init__(self, connection: Connection, trust: Callable[[], SqlTrust]) -> None:
        """Take the transaction's connection and its trust tables."""
        self._connection = connection
        self._trust = trust

    def newest(self, array_id: str) -> Epoch | None:
        """The newest epoch of an array."""
        query = _epochs().where(epochs.c.array_id == array_id).order_by(epochs.c.epoch.desc()).limit(1)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _epoch(row)

    def get(self, array_id: str, epoch: int) -> Epoch | None:
        """One epoch of an array."""
        query = _epochs().where(epochs.c.array_id == array_id, epochs.c.epoch == epoch)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else _epoch(row)

    def page(self, array_id: str, *, after: int, limit: int) -> Sequence[Epoch]:
        """Epochs of an array after a number."""
        query = _epochs().where(epochs.c.array_id == array_id, epochs.c.epoch > after)
        return [_epoch(row) for row in self._connection.execute(query.order_by(epochs.c.epoch).limit(limit))]

    def add(self, epoch: Epoch) -> None:
        """Insert an epoch."""
        authorities = [
            [one.authority_id, base64.b64encode(one.certificate_der).decode(), one.use.value]
            for one in epoch.authorities
        ]
        self._trust().rows(epochs).insert(asdict(epoch) | {"authorities": json.dumps(authorities)})
        touch(self._connection, EPOCHS)

    def restore_generation(self) -> int:
        """The restore generation of the database."""
        return int(self._connection.execute(select(SERVICE_TABLES.state.c.restore_generation)).scalar_one())


def _epochs() -> Select[Any]:
    return select(*[epochs.c[f.name] for f in fields(Epoch)])


def _epoch(row: Row[Any]) -> Epoch:
    authorities = tuple(
        BundleAuthority(authority_id, base64.b64decode(der), AuthorityUse(use))
        for authority_id, der, use in json.loads(row.authorities)
    )
    return Epoch(**row._asdict() | {"authorities": authorities})
