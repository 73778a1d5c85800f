"""Rows of the table of certificates: its one list of columns makes the tuple, the INSERT and the COPY."""

import zlib
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, Integer, LargeBinary, Text

from keyreeve_ca.store.tables import certificates

CertificateTuple = tuple[Any, ...]
"""The values of `FIELDS`."""
Row = tuple[Any, ...]
"""The values of `COLUMNS`."""

COLUMNS = tuple(certificates.c.keys())
DERIVED = ("block_number", "identity_crc")
"""The last columns: `row` adds them when the certificate goes into the ledger."""
FIELDS = (*COLUMNS[: -len(DERIVED)], "binds_key")
"""A certificate on its way there: attributes of `IssuedCertificate`, of which the last is not stored."""
SERIAL, AUTHORITY, IDENTITY, SPKI, NOT_AFTER, RENEWS, BINDS_KEY = (
    FIELDS.index(name)
    for name in ("serial", "authority_id", "identity", "spki_sha256", "not_after", "renews", "binds_key")
)

_POSTGRESQL_TYPES = {LargeBinary: "bytea", Text: "text", Integer: "int4", BigInteger: "int8"}
_NAMES = ", ".join(COLUMNS)
SQLITE_INSERT = f"INSERT INTO certificates ({_NAMES}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608  # constants
POSTGRESQL_COPY = f"COPY certificates ({_NAMES}) FROM STDIN (FORMAT BINARY)"
POSTGRESQL_TYPES = tuple(_POSTGRESQL_TYPES[type(column.type)] for column in certificates.c)
"""For `psycopg.Copy.set_types`."""
certificate_tuple: "attrgetter[CertificateTuple]" = attrgetter(*FIELDS)
"""The tuple of an `IssuedCertificate`."""


def row(certificate: CertificateTuple, block_number: int) -> Row:
    """The row of a certificate; `block_number` is the number of its block."""
    return (*certificate[:-1], block_number, zlib.crc32(certificate[IDENTITY].encode()))
