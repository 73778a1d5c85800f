"""`idempotency.ports.RequestRecords` on both databases."""

from collections.abc import Callable

from sqlalchemy import BigInteger, Column, Connection, Index, LargeBinary, MetaData, Table, Text, insert, select

from keyreeve_chassis.idempotency.ports import StoredResponse


def request_table(metadata: MetaData, *further: Column[bytes]) -> Table:
    """Define the table, for a service's own metadata. `caller` is `Caller.claimant`; rows are kept for 24 hours."""
    return Table(
        "requests",
        metadata,
        Column("caller", Text, primary_key=True),
        Column("method", Text, primary_key=True),
        Column("request_id", Text, primary_key=True),
        Column("payload_sha256", LargeBinary, nullable=False),
        *further,
        Column("response", LargeBinary, nullable=True),
        Column("created_at", BigInteger, nullable=False),
        Index(None, "created_at"),
    )


class SqlRequests:
    """The stored answers in one transaction; `must_be_writable` raises in a read transaction."""

    def __init__(self, connection: Connection, requests: Table, now: int, must_be_writable: Callable[[], None]) -> None:
        """Take the transaction's connection; `now` is in seconds since 1970."""
        self._connection = connection
        self._requests = requests
        self._now = now
        self._must_be_writable = must_be_writable

    def find(self, caller: str, method: str, request_id: str) -> StoredResponse | None:
        """The stored answer; None when the request is not known."""
        t = self._requests.c
        row = self._connection.execute(
            select(t.payload_sha256, t.response).where(
                t.caller == caller, t.method == method, t.request_id == request_id
            )
        ).one_or_none()
        return None if row is None else StoredResponse(row.payload_sha256, row.response)

    def add(self, caller: str, method: str, request_id: str, payload_sha256: bytes, response: bytes) -> None:
        """Store a response."""
        self._must_be_writable()
        self._connection.execute(
            insert(self._requests).values(
                caller=caller,
                method=method,
                request_id=request_id,
                payload_sha256=payload_sha256,
                response=response,
                created_at=self._now,
            )
        )
