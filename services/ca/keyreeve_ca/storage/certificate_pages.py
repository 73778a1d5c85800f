"""Reading the ledger: by serial number, in pages, and the newest; nothing here walks more of it than it must.

Blocks summarise what they hold (authority, first and last notAfter), so a filter by those visits only the blocks that fit.
A filter by identity goes through the index (number of the block, CRC-32 of the identity), one probe per block.
Filters by caller or profile alone read rows in order of serial number until the page is full.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import chain, islice
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Integer, Row, bindparam, exists, func, select

from keyreeve_ca.registry import CertificateFilter, StoredCertificate
from keyreeve_ca.rules.serials import block_of
from keyreeve_ca.storage.gate import serial_prefix
from keyreeve_ca.storage.revocation_tables import revocations
from keyreeve_ca.storage.tables import certificates, profiles, serial_blocks

COLUMNS = [certificates.c[f.name] for f in fields(StoredCertificate)]
_SERIALS_PER_QUERY = 500
_BLOCKS_PER_QUERY = 256
_NUMBERS_PER_QUERY = 512


def stored(row: Sequence[Any]) -> StoredCertificate:
    """A row of `COLUMNS` as the port has it."""
    return StoredCertificate(*row)


def by_serial(connection: Connection, serials: Sequence[bytes]) -> dict[bytes, StoredCertificate]:
    """Those of the serial numbers that are in the ledger."""
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


def page(connection: Connection, wanted: CertificateFilter, *, after: bytes, limit: int) -> Sequence[StoredCertificate]:
    """Rows in order of serial number, from the one after `after` (empty: from the first)."""
    conditions = _conditions(wanted)
    rows: Iterator[Row[Any]]
    if wanted.revoked and wanted.identity is None:
        rows = iter(_revoked_rows(connection, _conditions(replace(wanted, revoked=None)), after, limit))
    elif wanted.identity is not None:
        rows = _rows_by_identity(connection, wanted.identity, conditions, after, limit)
    elif (blocks := _block_conditions(wanted)) is None:
        rows = iter(_rows(connection, [*conditions, certificates.c.serial > after], limit))
    else:
        rows = _rows_by_block(connection, blocks, conditions, after, limit)
    return [stored(row) for row in islice(rows, limit)]


def count(connection: Connection, wanted: CertificateFilter) -> int:
    """How many there are; walks what `page` would."""
    query = select(func.count()).select_from(certificates).where(*_conditions(wanted))
    counted: int = connection.execute(query).scalar_one()
    return counted


def _conditions(wanted: CertificateFilter) -> list[ColumnElement[bool]]:
    c = certificates.c
    found: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (c.authority_id, wanted.authority_id),
            (c.profile_name, wanted.profile_name),
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
        found.append(c.issued_at >= wanted.issued_from)
    if wanted.issued_before is not None:
        found.append(c.issued_at < wanted.issued_before)
    if wanted.revoked is not None:
        is_revoked = exists().where(revocations.c.serial == c.serial)
        found.append(is_revoked if wanted.revoked else ~is_revoked)
    return found


def _block_conditions(wanted: CertificateFilter) -> list[ColumnElement[bool]] | None:
    """What a block must fulfil to hold anything that is wanted; None when no summary helps."""
    c = serial_blocks.c
    found: list[ColumnElement[bool]] = []
    if wanted.authority_id is not None:
        found.append(c.authority_id == wanted.authority_id)
    if wanted.valid_at is not None:
        found.append(c.last_not_after >= wanted.valid_at)
    found += [c.first_not_after < end for end in (wanted.expired_at, wanted.expires_before) if end is not None]
    return found or None


def _rows_by_identity(
    connection: Connection, identity: str, conditions: Sequence[ColumnElement[bool]], after: bytes, limit: int
) -> Iterator[Row[Any]]:
    by_number = serial_blocks.c.number
    first = connection.scalar(select(by_number).where(serial_blocks.c.block_id == _block_of(after)))
    last = connection.scalar(select(by_number).order_by(serial_blocks.c.block_id.desc()).limit(1))
    end = 0 if last is None else last + 1
    return chain.from_iterable(
        _rows(
            connection,
            [
                *conditions,
                certificates.c.block_number.in_(_numbers(number, min(number + _NUMBERS_PER_QUERY, end))),
                certificates.c.identity_crc == zlib.crc32(identity.encode()),
                certificates.c.serial > after,
            ],
            limit,
        )
        for number in range(first or 0, end, _NUMBERS_PER_QUERY)
    )


def _numbers(first: int, end: int) -> BindParameter[Any]:
    """Numbers of blocks, written into the statement: as parameters hundreds of them would cost more than the query."""
    return bindparam("numbers", list(range(first, end)), expanding=True, literal_execute=True, type_=Integer)


def _rows(connection: Connection, conditions: Sequence[ColumnElement[bool]], limit: int) -> Sequence[Row[Any]]:
    query = select(*COLUMNS).where(*conditions).order_by(certificates.c.serial).limit(limit)
    return connection.execute(query).all()


def _revoked_rows(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], after: bytes, limit: int
) -> Sequence[Row[Any]]:
    """Along the table of revocations, which is far shorter."""
    query = (
        select(*COLUMNS)
        .join(revocations, revocations.c.serial == certificates.c.serial)
        .where(*conditions, revocations.c.serial > after)
        .order_by(revocations.c.serial)
        .limit(limit)
    )
    return connection.execute(query).all()


def _rows_by_block(
    connection: Connection,
    blocks: Sequence[ColumnElement[bool]],
    conditions: Sequence[ColumnElement[bool]],
    after: bytes,
    limit: int,
) -> Iterator[Row[Any]]:
    return chain.from_iterable(
        _rows(
            connection,
            [
                *conditions,
                certificates.c.serial > max(after, serial_prefix(block_id)),
                certificates.c.serial < serial_prefix(block_id + 1),
            ],
            limit,
        )
        for block_id in _block_ids(connection, blocks, after)
    )


def _block_ids(connection: Connection, conditions: Sequence[ColumnElement[bool]], after: bytes) -> Iterator[int]:
    """Blocks that have certificates and fit the conditions, in order, from the one that `after` lies in."""
    block_id = _block_of(after)
    column = serial_blocks.c.block_id
    while True:
        query = (
            select(column)
            .where(column >= block_id, serial_blocks.c.first_not_after.is_not(None), *conditions)
            .order_by(column)
            .limit(_BLOCKS_PER_QUERY)
        )
        found = connection.scalars(query).all()
        yield from found
        if len(found) < _BLOCKS_PER_QUERY:
            return
        block_id = found[-1] + 1


def _block_of(after: bytes) -> int:
    """The block that a page begins in; 0, which is no block's number, for the first page."""
    return block_of(after) if after else 0
