"""`revocation.ports.RevocationRecords` on both databases."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from keyreeve.values import CrlReason, Hierarchy
from keyreeve_ca.blocked_keys.ports import BlockedKey
from keyreeve_ca.blocked_keys.sql import SqlBlockedKeys
from keyreeve_ca.certificates.serials import block_of
from keyreeve_ca.enrollment.sql import SqlTokens
from keyreeve_ca.revocation.crls_sql import SqlLists
from keyreeve_ca.revocation.ports import NewRevocation, Revocation
from keyreeve_ca.revocation.tables import revocations
from keyreeve_ca.store.tables import authorities, certificates, control_plane, renewals, serial_blocks
from keyreeve_chassis.database.transactions import touch

_FIELDS = [f.name for f in fields(Revocation)]
COLUMNS = [revocations.c[name] for name in _FIELDS]
_PER_QUERY = 500
CONFIG = "config"
"""Topic of what raises `config_version` (`store.ports.CONFIG`, which imports this package)."""


def stored(row: Sequence[Any]) -> Revocation:
    """Convert a row of `COLUMNS` to the port's value."""
    serial, seq, authority_id, crl_shard, reason, *rest = row
    return Revocation(serial, seq, authority_id, crl_shard, CrlReason(reason), *rest)


class SqlRevocations(SqlLists):
    """The records of one transaction."""

    def of(self, serials: Sequence[bytes]) -> dict[bytes, Revocation]:
        """The given serial numbers that have been revoked."""
        found: dict[bytes, Revocation] = {}
        for at in range(0, len(serials), _PER_QUERY):
            query = select(*COLUMNS).where(revocations.c.serial.in_(serials[at : at + _PER_QUERY]))
            found |= {row.serial: stored(row) for row in self._connection.execute(query)}
        return found

    def add(self, new: Sequence[NewRevocation]) -> list[Revocation]:
        """Record revocations; no renewal of these certificates enters the ledger from then on."""
        self._must_be_writable()
        if not new:
            return []
        last = self.take_numbers(len(new))
        shards = self._shards({block_of(one.serial) for one in new})
        made = [
            Revocation(
                serial=one.serial,
                seq=last - len(new) + n,
                authority_id=one.authority_id,
                crl_shard=shards[block_of(one.serial)],
                reason=one.reason,
                revoked_at=one.revoked_at,
                actor=one.actor,
                not_after=one.not_after,
            )
            for n, one in enumerate(new, 1)
        ]
        # Not `asdict`, which copies every value: the signing path waits meanwhile.
        self._trust.rows(revocations).insert(*({name: getattr(one, name) for name in _FIELDS} for one in made))
        # A renewal that is being signed meanwhile finds its predecessor's place taken, by no key's successor. So does one of
        # the newest certificate of a line of which any is revoked.
        dialect = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        taken = dialect.insert(renewals).on_conflict_do_nothing()
        newest = self._newest_of_lines([one.serial for one in made])
        self._connection.execute(taken, [{"predecessor": one, "successor": b"", "spki_sha256": b""} for one in newest])
        self._end_tokens_made_with(made)
        self._block_keys_of([one for one in made if one.reason is CrlReason.KEY_COMPROMISE])
        return made

    def _newest_of_lines(self, serials: Sequence[bytes]) -> list[bytes]:
        """The newest certificates of the lines of these; they themselves where they have not been renewed."""
        newest: list[bytes] = []
        while serials:
            query = select(renewals.c.predecessor, renewals.c.successor)
            found: dict[bytes, bytes] = {}
            for at in range(0, len(serials), _PER_QUERY):
                rows = self._connection.execute(query.where(renewals.c.predecessor.in_(serials[at : at + _PER_QUERY])))
                found |= {row.predecessor: row.successor for row in rows}
            newest += [serial for serial in serials if not found.get(serial)]
            serials = [successor for successor in found.values() if successor]
        return newest

    def ended_line(self, serial: bytes) -> bool:
        """Whether a certificate may not be renewed because it, or another of its line, has been revoked."""
        query = select(renewals.c.successor).where(renewals.c.predecessor == serial)
        return self._connection.scalar(query) == b""

    def _block_keys_of(self, made: Sequence[Revocation]) -> None:
        """Block the keys of certificates for good; the snapshots of all processes hear of it."""
        new: dict[bytes, BlockedKey] = {}
        for at in range(0, len(made), _PER_QUERY):
            by_serial = {one.serial: one for one in made[at : at + _PER_QUERY]}
            query = select(certificates.c.serial, certificates.c.spki_sha256)
            for row in self._connection.execute(query.where(certificates.c.serial.in_(by_serial))):
                one = by_serial[row.serial]
                new[row.spki_sha256] = BlockedKey(row.spki_sha256, str(one.reason), one.revoked_at, one.actor)
        if new and SqlBlockedKeys(self._connection, self._trust).add(new):
            touch(self._connection, CONFIG)
            version = control_plane.c.config_version + 1
            self._connection.execute(update(control_plane).values(config_version=version))

    def _end_tokens_made_with(self, made: Sequence[Revocation]) -> None:
        """Revoke the enrollment tokens of those whose certificates were revoked."""
        tokens = SqlTokens(self._connection, self._trust)
        for at in range(0, len(made), _PER_QUERY):
            serials = [one.serial for one in made[at : at + _PER_QUERY]]
            holders = select(certificates.c.identity).where(certificates.c.serial.in_(serials)).distinct()
            tokens.revoke_made_by(list(self._connection.scalars(holders)), made[0].revoked_at)

    def callers_after(self, seq: int, *, expiring_from: int, limit: int) -> list[Revocation]:
        """Revoked certificates of the control hierarchy above `seq`, in order of their numbers."""
        query = (
            select(*COLUMNS)
            .join(authorities, authorities.c.authority_id == revocations.c.authority_id)
            .where(
                revocations.c.seq > seq,
                revocations.c.not_after >= expiring_from,
                authorities.c.hierarchy == Hierarchy.CONTROL,
            )
            .order_by(revocations.c.seq)
            .limit(limit)
        )
        return [stored(row) for row in self._connection.execute(query)]

    def revoked_after(self, seq: int, limit: int) -> list[Revocation]:
        """Revocations above `seq`, in order of their numbers."""
        query = select(*COLUMNS).where(revocations.c.seq > seq).order_by(revocations.c.seq).limit(limit)
        return [stored(row) for row in self._connection.execute(query)]

    def _shards(self, block_ids: set[int]) -> dict[int, int]:
        query = select(serial_blocks.c.block_id, serial_blocks.c.crl_shard).where(
            serial_blocks.c.block_id.in_(block_ids)
        )
        return {row.block_id: row.crl_shard for row in self._connection.execute(query)}
