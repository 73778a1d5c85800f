"""PostgreSQL: the ledger in partitions by time, since serial numbers begin with the time of their block.

A partition is named after the day (days since 1970, UTC) that it ends before; the first one begins with the first serial
number. Partitions are made ahead; if none was made in time, or a clock runs far ahead, rows go into
`certificates_rest`, so that no commit ever fails for want of a partition.
"""

import re

from sqlalchemy import Connection, text

from keyreeve_ca.ledger.blocks import EPOCH, SECOND_SHIFT
from keyreeve_ca.ledger.commit_rules import serial_prefix

DAY = 86_400
PARTITION_DAYS = 30
AHEAD_DAYS = 90
"""A partition for this time to come is there at any time."""
_FIRST_DAYS = 35
"""The migration must be complete within this time of its first step, which promises where the first partition ends."""
_REST = "certificates_rest"
_PREFIX = "certificates_until_"
_INDEXES = ("ix_certificates_block_number_identity_crc", "ix_certificates_profile_name_issued_at")
_LOCK = 0x6B72_7061


def bound(day: int) -> str:
    """The literal before which all serial numbers of blocks leased before that day are."""
    return f"'\\x{serial_prefix((day * DAY - EPOCH) << SECOND_SHIFT).hex()}'::bytea"


def promise(connection: Connection) -> None:
    """Add a NOT VALID constraint: all serial numbers lie before a future day.

    Existing rows are not checked, so no reader or writer waits.
    """
    # Migration 0009 runs this, when the table still has its first name.
    last: int | None = connection.scalar(text("SELECT last_block_id FROM plane"))
    ahead = 0 if last is None else ((last >> SECOND_SHIFT) + EPOCH) // DAY
    day = max(_today(connection), ahead) + _FIRST_DAYS
    connection.execute(
        text(f"ALTER TABLE certificates ADD CONSTRAINT {_PREFIX}{day} CHECK (serial < {bound(day)}) NOT VALID")
    )


def withdraw(connection: Connection) -> None:
    """Undo `promise`, if the table is not partitioned yet."""
    for name in _promises(connection):
        connection.execute(text(f"ALTER TABLE certificates DROP CONSTRAINT {name}"))


def validate_constraint(connection: Connection) -> None:
    """Validate the constraint; readers and writers continue."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))  # tens of gigabytes may have to be read
    for name in _promises(connection):
        connection.execute(text(f"ALTER TABLE certificates VALIDATE CONSTRAINT {name}"))


def begin(connection: Connection) -> None:
    """Make the table the first partition."""
    [first] = _promises(connection)
    day = int(first.removeprefix(_PREFIX))
    for statement in (
        f"ALTER TABLE certificates RENAME TO {first}",
        f"ALTER TABLE {first} RENAME CONSTRAINT pk_certificates TO pk_{first}",
        *(f"ALTER INDEX {name} RENAME TO {name.replace('certificates', first)}" for name in _INDEXES),
        f"CREATE TABLE certificates (LIKE {first}) PARTITION BY RANGE (serial)",
        "ALTER TABLE certificates ADD CONSTRAINT pk_certificates PRIMARY KEY (serial)",
        "CREATE INDEX ix_certificates_block_number_identity_crc ON certificates (block_number, identity_crc)",
        "CREATE INDEX ix_certificates_profile_name_issued_at ON certificates (profile_name, issued_at)",
        f"ALTER TABLE certificates ATTACH PARTITION {first} FOR VALUES FROM (MINVALUE) TO ({bound(day)})",
        f"ALTER TABLE {first} DROP CONSTRAINT {first}",
        f"CREATE TABLE {_REST} PARTITION OF certificates DEFAULT",
    ):
        connection.execute(text(statement))


def extend(connection: Connection) -> int:
    """Create partitions up to `AHEAD_DAYS` from now; return how many. One process at a time.

    Where rows have already gone into the default partition they stay there: that time gets no partition of its own.
    """
    if not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
        return 0
    end, made = max(days(connection)), 0
    while end < _today(connection) + AHEAD_DAYS:
        start, end = end, end + PARTITION_DAYS
        within = f"serial >= {bound(start)} AND serial < {bound(end)}"
        if connection.scalar(text(f"SELECT EXISTS (SELECT 1 FROM {_REST} WHERE {within})")):  # noqa: S608
            continue
        connection.execute(
            text(
                f"CREATE TABLE {_PREFIX}{end} PARTITION OF certificates"
                f" FOR VALUES FROM ({bound(start)}) TO ({bound(end)})"
            )
        )
        made += 1
    return made


def drop_empty(connection: Connection) -> int:
    """Drop empty partitions of the past; return how many. Commits wait while one is dropped."""
    found = 0
    for day in days(connection):
        if day > _today(connection):
            break
        left = text(f"SELECT EXISTS (SELECT 1 FROM {_PREFIX}{day})")  # noqa: S608
        if connection.scalar(left):
            continue
        # A block of that time may still be open; check again once inserts are locked out.
        connection.execute(text("LOCK TABLE ONLY certificates IN ACCESS EXCLUSIVE MODE"))
        if not connection.scalar(left):
            connection.execute(text(f"DROP TABLE {_PREFIX}{day}"))
            found += 1
    return found


def days(connection: Connection) -> list[int]:
    """The days at which the partitions end, in order."""
    names = connection.scalars(
        text(
            "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'certificates'::regclass"
        )
    )
    return sorted(int(name.removeprefix(_PREFIX)) for name in names if re.fullmatch(rf"{_PREFIX}\d+", name))


def _promises(connection: Connection) -> list[str]:
    names = connection.scalars(
        text("SELECT conname FROM pg_constraint WHERE conrelid = 'certificates'::regclass AND contype = 'c'")
    )
    return [name for name in names if name.startswith(_PREFIX)]


def _today(connection: Connection) -> int:
    seconds: int = connection.scalar(text("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")) or 0
    return seconds // DAY
