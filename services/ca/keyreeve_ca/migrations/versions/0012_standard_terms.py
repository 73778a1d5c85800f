"""Tables, columns and stored words take the field's standard terms; operations get leases and say what they wait for.

No row of the ledger is read or copied.

The reason `not_given` becomes `unspecified` (RFC 5280, 5.3.1). Stored responses whose bytes hold the old numbers or
resource names are forgotten: their requests were answered by the release before, and a repeat is carried out anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_TABLES = {
    "plane": "control_plane",
    "people": "operators",
    "person_keys": "operator_keys",
    "enrolment_tokens": "enrollment_tokens",
}
_COLUMNS = (
    ("control_plane", "incarnation", "restore_generation"),
    ("serial_blocks", "incarnation", "restore_generation"),
    ("audit_chains", "incarnation", "restore_generation"),
    ("authorities", "tree", "hierarchy"),
    ("certificates", "wished_names", "requested_sans"),
    ("certificates", "wished_seconds", "requested_lifetime_seconds"),
)
_INDEXES = (
    ("people", "operators", ("name",)),
    ("person_keys", "operator_keys", ("person_uid",)),
    ("enrolment_tokens", "enrollment_tokens", ("state", "expires_at")),
)
_CONSTRAINTS = (
    ("pk_plane", "pk_control_plane", "control_plane"),
    ("ck_plane_single_row", "ck_control_plane_single_row", "control_plane"),
    ("pk_people", "pk_operators", "operators"),
    ("pk_person_keys", "pk_operator_keys", "operator_keys"),
    ("pk_enrolment_tokens", "pk_enrollment_tokens", "enrollment_tokens"),
    ("ck_enrolment_tokens_state", "ck_enrollment_tokens_state", "enrollment_tokens"),
)
_RESPONSES_IN_OLD_WORDS = (
    "DELETE FROM requests WHERE method = '/keyreeve.ca.v1.CertificateService/RevokeCertificate'"
    " OR method LIKE '/keyreeve.ca.v1.Enrol%'"
)


def upgrade() -> None:
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    for table, old, new in _COLUMNS:
        op.execute(sa.text(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}"))
    for old, new, columns in _INDEXES:
        _rename_index(new, f"ix_{old}_{'_'.join(columns)}", f"ix_{new}_{'_'.join(columns)}", columns)
    if op.get_bind().dialect.name == "postgresql":
        for old, new, table in _CONSTRAINTS:
            op.execute(sa.text(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}"))
    _replace_reason("not_given", "unspecified")
    op.execute(sa.text(_RESPONSES_IN_OLD_WORDS))
    op.add_column("operations", sa.Column("waiting", sa.Text(), nullable=False, server_default="[]"))
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner_nonce", sa.Text(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    op.drop_table("leases")
    op.drop_column("operations", "waiting")
    op.execute(sa.text(_RESPONSES_IN_OLD_WORDS))
    _replace_reason("unspecified", "not_given")
    if op.get_bind().dialect.name == "postgresql":
        for old, new, table in _CONSTRAINTS:
            op.execute(sa.text(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}"))
    for old, new, columns in _INDEXES:
        _rename_index(new, f"ix_{new}_{'_'.join(columns)}", f"ix_{old}_{'_'.join(columns)}", columns)
    for table, old, new in _COLUMNS:
        op.execute(sa.text(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}"))
    for old, new in _TABLES.items():
        op.rename_table(new, old)


def _rename_index(table: str, old: str, new: str, columns: tuple[str, ...]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.text(f"ALTER INDEX {old} RENAME TO {new}"))
        return
    op.drop_index(old, table)  # SQLite cannot rename an index; these tables are small
    op.create_index(new, table, list(columns), unique=False)


def _replace_reason(old: str, new: str) -> None:
    op.execute(sa.text("UPDATE revocations SET reason = :new WHERE reason = :old").bindparams(old=old, new=new))
    op.execute(
        sa.text("UPDATE operations SET arguments = replace(arguments, :old, :new)").bindparams(
            old=f'"{old}"', new=f'"{new}"'
        )
    )
