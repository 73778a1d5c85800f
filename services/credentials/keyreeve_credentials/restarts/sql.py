"""`restarts.ports.BootRecords` on both databases."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from keyreeve_credentials.restarts.ports import Boot
from keyreeve_credentials.restarts.tables import member_boots, rekey_requests


class SqlBoots:
    """The records in one transaction; `write` executes a statement, or raises in a read transaction."""

    def __init__(self, connection: Connection, write: Callable[[Any], Any]) -> None:
        self._connection = connection
        self._write = write

    def known(self) -> Mapping[str, str]:
        """See `BootRecords.known`."""
        query = select(member_boots.c.member_uid, member_boots.c.boot_id)
        return {row.member_uid: row.boot_id for row in self._connection.execute(query)}

    def put(self, boot: Boot) -> None:
        """See `BootRecords.put`."""
        self._write(delete(member_boots).where(member_boots.c.member_uid == boot.member_uid))
        self._write(
            insert(member_boots).values(member_uid=boot.member_uid, array_id=boot.array_id, boot_id=boot.boot_id)
        )

    def request(self, array_id: str, now: int) -> None:
        """See `BootRecords.request`."""
        if array_id not in self.requests():
            self._write(insert(rekey_requests).values(array_id=array_id, requested_at=now))

    def requests(self) -> Sequence[str]:
        """See `BootRecords.requests`."""
        query = select(rekey_requests.c.array_id).order_by(rekey_requests.c.requested_at, rekey_requests.c.array_id)
        return list(self._connection.scalars(query))

    def withdraw(self, array_id: str) -> None:
        """See `BootRecords.withdraw`."""
        self._write(delete(rekey_requests).where(rekey_requests.c.array_id == array_id))
