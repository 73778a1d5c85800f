"""The service's tables. Times are seconds since 1970 unless a name ends in `_ms`."""

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text, text

from keyreeve_chassis.database.service_tables import service_metadata, service_tables
from keyreeve_chassis.trust_tables.tables import MAC, TrustTable, TrustTables, heads_table, mac_column
from keyreeve_membership.roll.ports import ArrayState, MemberState

metadata = service_metadata()
SERVICE_TABLES = service_tables(metadata)
TRUST_HEADS = heads_table(metadata)


def _one_of(column: str, values: type[ArrayState] | type[MemberState]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value.value) for value in values)})", name=column)


roll_state = Table(
    "roll_state",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="single_row"), primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("published", BigInteger, nullable=False, server_default="0"),
)
arrays = Table(
    "arrays",
    metadata,
    Column("array_id", Text, primary_key=True),
    Column("array_uid", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),
    Column("authority_id", Text, nullable=False),
    Column("authority_sha256", LargeBinary, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("peer_security", Boolean(create_constraint=False), nullable=False),
    Column("change", Text, nullable=False),
    Column("order_number", BigInteger, nullable=False),
    Column("order_step", Integer, nullable=False),
    Column("backups", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    mac_column(),
    _one_of("state", ArrayState),
)
members = Table(
    "members",
    metadata,
    Column("member_uid", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("array_id", Text, nullable=False, index=True),
    Column("joining_array_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("primary", Boolean(create_constraint=False), nullable=False),
    Column("address", Text, nullable=False),
    Column("external_names", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False, unique=True),
    Column("left_array_id", Text, nullable=False),
    mac_column(),
    _one_of("state", MemberState),
)
# The database itself keeps one server to a name and one primary to an array.
Index(
    "uq_members_present_name",
    members.c.name,
    unique=True,
    sqlite_where=text("state <> 'detached'"),
    postgresql_where=text("state <> 'detached'"),
)
Index(
    "uq_members_primary",
    members.c.array_id,
    unique=True,
    sqlite_where=members.c.primary,
    postgresql_where=members.c.primary,
)
member_events = Table(
    "member_events",
    metadata,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("member_uid", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("array_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("comment", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)
reports = Table(
    "reports",
    metadata,
    Column("member_uid", Text, primary_key=True),
    Column("received_at_ms", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("view", Text, nullable=False),
    Column("peers", Text, nullable=False),
    Column("certificate", Text, nullable=False),
    Column("authority_id", Text, nullable=False),
    Column("certificate_not_after", BigInteger, nullable=False),
    Column("running_sessions", BigInteger),
    Column("suspended_sessions", BigInteger),
    Column("stopped", Boolean(create_constraint=False), nullable=False),
    Column("former_boot_id", Text, nullable=False),
    Column("booted_at_ms", BigInteger, nullable=False),
    Column("cloned", Boolean(create_constraint=False), nullable=False),
)
acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("member_uid", Text, primary_key=True),
    Column("array_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
)
epochs = Table(
    "epochs",
    metadata,
    Column("array_id", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("restore_generation", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("previous_digest", LargeBinary, nullable=False),
    Column("authorities", Text, nullable=False),
    Column("rotation_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    mac_column(),
)
rotations = Table(
    "rotations",
    metadata,
    Column("rotation_id", Text, primary_key=True),
    Column("array_id", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("old_authority_id", Text, nullable=False),
    Column("new_authority_id", Text, nullable=False),
    Column("old_primary_uid", Text, nullable=False),
    Column("new_primary_uid", Text, nullable=False),
    Column("key_type", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("final_epoch", BigInteger, nullable=False),
    Column("was_activated", Boolean(create_constraint=False), nullable=False),
    Column("phase_seconds", BigInteger, nullable=False),
    Column("deadline", BigInteger, nullable=False),
    Column("operation_id", Text, nullable=False),
    Column("old_certificates_waived", Boolean(create_constraint=False), nullable=False),
    Column("old_certificates", BigInteger, nullable=False),
    Column("creator", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    mac_column(),
)
rotation_members = Table(
    "rotation_members",
    metadata,
    Column("rotation_id", Text, primary_key=True),
    Column("member_uid", Text, primary_key=True),
    Column("checked_boot_id", Text, nullable=False),
    Column("waived", Boolean(create_constraint=False), nullable=False),
    Column("quarantined", Boolean(create_constraint=False), nullable=False),
    Column("waiting", Text, nullable=False),
    Column("waiting_since", BigInteger, nullable=False),
)
settings = Table(
    "settings",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)


def _all_columns(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if not column.primary_key and column.name != MAC)


TRUST_TABLES = TrustTables(
    TRUST_HEADS,
    (
        TrustTable(arrays, (_all_columns(arrays),)),
        TrustTable(members, (_all_columns(members),)),
        TrustTable(rotations, (_all_columns(rotations),), listed=False),
        TrustTable(epochs, (_all_columns(epochs),), listed=False),
    ),
)
"""What decides which servers and CAs are trusted: another that writes here is found (docs/security.md).

These are the columns of the first release with them; columns that a later one adds are a further set.
"""
