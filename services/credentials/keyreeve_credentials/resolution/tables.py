"""What resolution keeps about entries, beside them: rows here decide nothing that an entry's secret depends on."""

from sqlalchemy import BigInteger, Column, Table, Text

from keyreeve_credentials.store.metadata import metadata

entry_uses = Table(
    "entry_uses",
    metadata,
    Column("entry_uid", Text, primary_key=True),
    Column("array_id", Text, nullable=False),
    Column("login_domain", Text, nullable=False),
    Column("used_at", BigInteger, nullable=False),
)
