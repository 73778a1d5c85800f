"""Reading the ledger: by serial number, in pages, and the newest; no statement here reads more than a block or two of it.

What a list wants is looked for in stretches of serial numbers, one after the other. Without any filter a page is one
stretch. Along revocations, a stretch is some hundreds of those. For an identity it is a hundred blocks or so, each probed
once in the index (number of the block, CRC-32 of the identity). For everything else it is one block of at most 4,096
certificates, all of which are read: an index on requester or profile would be paid for at every signature, by lists that
few ask for. Blocks summarize their contents (authority, first and last notAfter), and those that do not fit are left out.

A page ends when it is full or when so much has been read: then it is short, maybe empty, and says where to go on.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Row,
    bindparam,
    exists,
    func,
    or_,
    select,
)

from keyreeve_ca.certificates.serials import block_of
from keyreeve_ca.ledger.commit_rules import serial_prefix
from keyreeve_ca.revocation.tables import revocations
from keyreeve_ca.store.ports import CertificateFilter, CertificatePage, StoredCertificate, newest_first_position
from keyreeve_ca.store.tables import certificates, profiles, serial_blocks

COLUMNS = [certificates.c[f.name] for f in fields(StoredCertificate)]
MOST_READ = 4096
"""Rows that a page reads at the most, but for the last stretch: those of a full block."""
_SERIALS_PER_QUERY = 500
_BLOCKS_PER_QUERY = 96
_READS_PER_LOOK_UP = 4
"""Rows that might be read in the time of one look-up."""
_READS_PER_PROBE = 48
"""The same for a block that is asked for an identity, which is two reads of the disk where there is one: 512 of them took
37 ms in a ledger of 20,000,000, 128 took 21."""
_LEAST_TAG = bytes(10)


def stored(row: Sequence[Any]) -> StoredCertificate:
    """A row of `COLUMNS` as the port has it."""
    return StoredCertificate(*row)


def by_serial(connection: Connection, serials: Sequence[bytes]) -> dict[bytes, StoredCertificate]:
    """The given serial numbers that are in the ledger."""
    found: dict[bytes, StoredCertificate] = {}
    for at in range(0, len(serials), _SERIALS_PER_QUERY):
        query = select(*COLUMNS).where(certificates.c.serial.in_(serials[at : at + _SERIALS_PER_QUERY]))
        for row in connection.execute(query):
            found[row.serial] = stored(row)
    return found


def newest(connection: Connection, profile_name: str | None, limit: int) -> Sequence[StoredCertificate]:
    """The last `limit` certificates by `issued_at`, newest first."""
    names = [profile_name] if profile_name is not None else list(connection.scalars(select(profiles.c.name)))
    rows: list[Row[Any]] = []
    for name in names:
        query = (
            select(*COLUMNS)
            .where(certificates.c.profile_name == name)
            .order_by(certificates.c.issued_at.desc())
            .limit(limit)
        )
        rows += connection.execute(query).all()
    rows.sort(key=lambda row: (row.issued_at, row.serial), reverse=True)
    return [stored(row) for row in rows[:limit]]


def newest_page(
    connection: Connection, wanted: CertificateFilter, *, after: bytes, limit: int, most_read: int
) -> CertificatePage:
    """Certificates from the newest on, after the position `after` (empty: from the newest).

    The index on profile and time is read for each profile; a page goes no further back than all of them have been read.
    """
    c = certificates.c
    profile = wanted.profile_name
    names = list(connection.scalars(select(profiles.c.name).distinct())) if profile is None else [profile]
    everything = wanted == CertificateFilter(profile_name=profile)
    most = limit if everything else max(limit, most_read // max(1, len(names)))
    keys: list[tuple[int, bytes]] = []
    read_until: tuple[int, bytes] | None = None
    for name in names:
        query = select(c.issued_at, c.serial).where(c.profile_name == name)
        if after:
            issued_at, serial = int.from_bytes(after[:8]), after[8:]
            query = query.where(c.issued_at <= issued_at, or_(c.issued_at < issued_at, c.serial < serial))
        query = query.order_by(c.issued_at.desc(), c.serial.desc()).limit(most)
        found = [(row.issued_at, row.serial) for row in connection.execute(query)]
        if len(found) == most:
            read_until = max(found[-1], read_until or found[-1])
        keys += found
    keys = sorted((key for key in keys if read_until is None or key >= read_until), reverse=True)
    rows: list[StoredCertificate] = []
    for at in range(0, len(keys), _SERIALS_PER_QUERY):
        those = c.serial.in_([serial for _, serial in keys[at : at + _SERIALS_PER_QUERY]])
        some = map(stored, connection.execute(select(*COLUMNS).where(those, *_conditions(wanted))))
        rows += sorted(some, key=newest_first_position, reverse=True)
        if len(rows) >= limit:
            return CertificatePage(rows[:limit], newest_first_position(rows[limit - 1]))
    return CertificatePage(rows, None if read_until is None else read_until[0].to_bytes(8) + read_until[1])


@dataclass(frozen=True)
class _Stretch:
    """A part of the ledger that one statement reads."""

    conditions: tuple[ColumnElement[bool], ...]
    order: ColumnElement[bytes]
    reads: int
    """About how many rows."""
    end: bytes | None
    """A serial number, or what could be one, between this stretch and the next; None: there is no next."""


def page(
    connection: Connection, wanted: CertificateFilter, *, after: bytes, limit: int, most_read: int | None = None
) -> CertificatePage:
    """Certificates in order of serial number, after `after` (empty: from the first); None reads to the end."""
    _fresh_plans(connection)
    rows: list[Row[Any]] = []
    read = 0
    serial = certificates.c.serial
    whole = [_Stretch((serial > after,), serial, 0, None)]
    for one in whole if wanted == CertificateFilter() else _stretches(connection, wanted, after):
        query = select(*COLUMNS).where(*one.conditions).order_by(one.order)
        rows += connection.execute(query.limit(limit - len(rows))).all()
        if len(rows) == limit:
            return CertificatePage([stored(row) for row in rows], rows[-1].serial)
        read += one.reads
        if most_read is not None and read >= most_read:
            return CertificatePage([stored(row) for row in rows], one.end)
    return CertificatePage([stored(row) for row in rows], None)


def count(
    connection: Connection, wanted: CertificateFilter, *, after: bytes, most_read: int
) -> tuple[int, bytes | None]:
    """Count certificates within a bounded time; also return where to continue."""
    _fresh_plans(connection)
    counted = read = 0
    for one in _stretches(connection, wanted, after):
        counted += connection.scalar(select(func.count()).select_from(certificates).where(*one.conditions)) or 0
        read += one.reads
        if read >= most_read:
            return counted, one.end
    return counted, None


def _stretches(connection: Connection, wanted: CertificateFilter, after: bytes) -> Iterator[_Stretch]:
    if wanted.revoked and wanted.identity is None:
        return _along_revocations(connection, wanted, after)
    if wanted.identity is not None:
        return _by_identity(connection, wanted, wanted.identity, after)
    return _by_block(connection, wanted, after)


def _fresh_plans(connection: Connection) -> None:
    """Make PostgreSQL use fresh plans until this transaction ends.

    A plan cached while nothing was revoked checks each certificate against all revocations.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_custom_plan")


def _conditions(wanted: CertificateFilter) -> list[ColumnElement[bool]]:
    """The WHERE conditions. They must not select the index on profile and time."""
    c = certificates.c
    found: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (c.authority_id, wanted.authority_id),
            (c.profile_name.concat(""), wanted.profile_name),
            (c.identity, wanted.identity),
            (c.caller, wanted.caller),
        )
        if value is not None
    ]
    if wanted.valid_at is not None:
        found += [c.not_before <= wanted.valid_at, c.not_after >= wanted.valid_at]
    if wanted.expired_at is not None:
        found.append(c.not_after < wanted.expired_at)
    if wanted.expires_before is not None:
        found.append(c.not_after < wanted.expires_before)
    if wanted.issued_from is not None:
        found.append(c.issued_at + 0 >= wanted.issued_from)
    if wanted.issued_before is not None:
        found.append(c.issued_at + 0 < wanted.issued_before)
    if wanted.revoked is not None:
        is_revoked = exists().where(revocations.c.serial == c.serial)
        found.append(is_revoked if wanted.revoked else ~is_revoked)
    return found


def _along_revocations(connection: Connection, wanted: CertificateFilter, after: bytes) -> Iterator[_Stretch]:
    """Scan along the table of revocations, which is far shorter."""
    conditions = _conditions(replace(wanted, revoked=None))
    while True:
        query = select(revocations.c.serial).where(revocations.c.serial > after).order_by(revocations.c.serial)
        found = connection.scalars(query.limit(_SERIALS_PER_QUERY)).all()
        more = len(found) == _SERIALS_PER_QUERY
        if found:
            after = found[-1]
            reads = _SERIALS_PER_QUERY * _READS_PER_LOOK_UP
            those = certificates.c.serial.in_(found)
            yield _Stretch((*conditions, those), certificates.c.serial, reads, after if more else None)
        if not more:
            return


def _by_identity(connection: Connection, wanted: CertificateFilter, identity: str, after: bytes) -> Iterator[_Stretch]:
    c = certificates.c
    # Planners that know little would rather walk the serial numbers, which come in the right order.
    serial = func.coalesce(c.serial, b"")
    for some in _blocks(connection, wanted, after):
        end = _end_of(some[-1].block_id)
        conditions = [
            *_conditions(wanted),
            c.block_number.in_(_numbers([block.number for block in some])),
            c.identity_crc == zlib.crc32(identity.encode()),
            serial > after,
        ]
        if connection.dialect.name == "postgresql":  # it need not look into partitions of other times
            conditions += [c.serial > serial_prefix(some[0].block_id), c.serial < end]
        yield _Stretch(tuple(conditions), serial, len(some) * _READS_PER_PROBE, end)


def _by_block(connection: Connection, wanted: CertificateFilter, after: bytes) -> Iterator[_Stretch]:
    serial, conditions = certificates.c.serial, _conditions(wanted)
    for some in _blocks(connection, wanted, after):
        for block in some:
            start, end = max(after, serial_prefix(block.block_id)), _end_of(block.block_id)
            within = (serial > start, serial < end)
            yield _Stretch((*conditions, *within), serial, block.committed + 1, end)


def _blocks(connection: Connection, wanted: CertificateFilter, after: bytes) -> Iterator[Sequence[Row[int, int, int]]]:
    """Blocks (id, number, last counter) that may match, in order, from the one of `after`."""
    c = serial_blocks.c
    block_id = _block_of(after)
    while True:
        query = (
            select(c.block_id, c.number, c.committed)
            .where(c.block_id >= block_id, *_block_conditions(wanted))
            .order_by(c.block_id)
            .limit(_BLOCKS_PER_QUERY)
        )
        found = connection.execute(query).all()
        if found:
            yield found
        if len(found) < _BLOCKS_PER_QUERY:
            return
        block_id = found[-1].block_id + 1


def _block_conditions(wanted: CertificateFilter) -> list[ColumnElement[bool]]:
    """The conditions for a block to contain a match."""
    c = serial_blocks.c
    found: list[ColumnElement[bool]] = [c.first_not_after.is_not(None)]
    if wanted.authority_id is not None:
        found.append(c.authority_id == wanted.authority_id)
    if wanted.valid_at is not None:
        found.append(c.last_not_after >= wanted.valid_at)
    found += [c.first_not_after < end for end in (wanted.expired_at, wanted.expires_before) if end is not None]
    return found


def _numbers(numbers: Sequence[int]) -> BindParameter[Any]:
    """Block numbers as literals: as hundreds of parameters they would cost more than the query."""
    return bindparam("numbers", numbers, expanding=True, literal_execute=True, type_=Integer)


def _end_of(block_id: int) -> bytes:
    """The exclusive upper bound of a block's serial numbers."""
    return serial_prefix(block_id + 1) + _LEAST_TAG


def _block_of(after: bytes) -> int:
    """The block that a page begins in; 0, which no block has, for the first page."""
    return block_of(after) if after else 0
