"""Tables of the members' starts, and of the requests for a new key that follow from them."""

from sqlalchemy import BigInteger, Column, Table, Text

from keyreeve_credentials.store.metadata import metadata

member_boots = Table(
    "member_boots",
    metadata,
    Column("member_uid", Text, primary_key=True),
    Column("array_id", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
)

rekey_requests = Table(
    "rekey_requests",
    metadata,
    Column("array_id", Text, primary_key=True),
    Column("requested_at", BigInteger, nullable=False),
)
