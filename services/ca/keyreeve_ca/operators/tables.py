"""Tables of operators, their keys, and the SSH CAs that may vouch for them.

One row per operator ever invited (a name belongs to the one who is not removed), and one per registered key.
"""

from sqlalchemy import BigInteger, Column, Index, Table, Text

from keyreeve_ca.store.metadata import metadata
from keyreeve_chassis.trust_tables.tables import mac_column

operators = Table(
    "operators",
    metadata,
    Column("person_uid", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("invited_at", BigInteger, nullable=False),
    Column("invited_by", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("removed_at", BigInteger, nullable=True),
    Column("removed_by", Text, nullable=False),
    # Of the last change, among the numbers of `revocation_head`.
    Column("seq", BigInteger, nullable=False, server_default="0"),
    mac_column(),
    Index(None, "name"),
    Index(None, "seq"),
)

operator_approvals = Table(
    "operator_approvals",
    metadata,
    Column("change", Text, primary_key=True),
    Column("approved_at", BigInteger, nullable=False),
    Column("approved_by", Text, nullable=False),
    Column("approver", Text, nullable=False),
    mac_column(),
)

operator_keys = Table(
    "operator_keys",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("person_uid", Text, nullable=False),
    Column("line", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", Text, nullable=False),
    mac_column(),
    Index(None, "person_uid"),
)

operator_ssh_authorities = Table(
    "operator_ssh_authorities",
    metadata,
    Column("person_uid", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("line", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("added_by", Text, nullable=False),
    mac_column(),
)
