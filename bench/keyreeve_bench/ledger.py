"""Read-only access to the ledger's database, to compare it with the acknowledged certificates."""

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyreeve.cli.supervision.local_services import read_config
from keyreeve.cli.supervision.state_directory import StateDirectory
from keyreeve.errors import FileUnusable, KeyreeveError
from keyreeve_bench.local_processes import Group, postgresql_group

_ROWS = "SELECT serial, request_id FROM {table} WHERE profile_name = {mark} AND issued_at >= {mark}"
_COUNTED = 1_000_000


class LedgerUnreadable(Exception):
    """The ledger's database cannot be read from this process."""


class Ledger(ABC):
    """A ledger's database. Its methods raise `LedgerUnreadable`."""

    kind: str
    """`sqlite` or `postgresql`, with its release."""
    directory: Path | None = None
    """Directory of its files, when known and local."""
    group: Group | None = None
    """Its processes, when it has its own and they are local."""

    @abstractmethod
    def rows(self) -> int:
        """Number of certificates: exact, or an estimate when counting would be slow."""

    @abstractmethod
    def issued(self, profile: str, since: int) -> Iterator[tuple[bytes, str]]:
        """Serial number and request id of each certificate issued since a time (seconds since 1970)."""


class SqliteLedger(Ledger):
    """An SQLite file, opened read-only: in WAL mode it can be read while the coordinator writes."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.kind = f"sqlite {sqlite3.sqlite_version}"
        self.directory = file.parent

    def rows(self) -> int:
        with self._open() as connection:
            return int(connection.execute("SELECT coalesce(max(rowid), 0) FROM certificates").fetchone()[0])

    def issued(self, profile: str, since: int) -> Iterator[tuple[bytes, str]]:
        with self._open() as connection:
            yield from connection.execute(_ROWS.format(table="certificates", mark="?"), (profile, since))

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=10)) as connection:
                yield connection
        except sqlite3.Error as failure:
            raise LedgerUnreadable(f"{self._file}: {failure}") from None


class PostgresqlLedger(Ledger):
    """A PostgreSQL server, local or remote."""

    def __init__(self, url: str) -> None:
        self._url = url
        with self._open() as connection:
            self.kind = f"postgresql {connection.execute('SHOW server_version').fetchone()[0].split()[0]}"
            self.group = postgresql_group(connection.execute("SELECT pg_backend_pid()").fetchone()[0])
            with contextlib.suppress(Exception):  # only a superuser may read it; it is not required
                self.directory = Path(connection.execute("SHOW data_directory").fetchone()[0])

    def rows(self) -> int:
        with self._open() as connection:
            estimate = connection.execute(
                "SELECT coalesce(sum(greatest(c.reltuples, 0)), 0) FROM pg_class c WHERE c.relkind IN ('r', 'p') "
                "AND (c.oid = 'keyreeve_ca.certificates'::regclass OR c.oid IN "
                "(SELECT inhrelid FROM pg_inherits WHERE inhparent = 'keyreeve_ca.certificates'::regclass))"
            ).fetchone()[0]
            if estimate > _COUNTED:
                return int(estimate)
            return int(connection.execute("SELECT count(*) FROM keyreeve_ca.certificates").fetchone()[0])

    def issued(self, profile: str, since: int) -> Iterator[tuple[bytes, str]]:
        with self._open() as connection, connection.cursor("bench") as cursor:
            cursor.execute(_ROWS.format(table="keyreeve_ca.certificates", mark="%s"), (profile, since))
            for serial, request_id in cursor:
                yield bytes(serial), request_id

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            import psycopg
        except ImportError:
            raise LedgerUnreadable("psycopg is not installed here: pip install 'keyreeve[server]'") from None
        try:
            with psycopg.connect(self._url, connect_timeout=10) as connection:
                yield connection
        except psycopg.Error as failure:
            # The type alone: the text may hold the URL with its password.
            raise LedgerUnreadable(f"the PostgreSQL of the ledger does not answer: {type(failure).__name__}") from None


def open_ledger(state_directory: StateDirectory, url: str | None) -> Ledger:
    """Open the ledger at the URL, or the one of a state directory's service. Raises `LedgerUnreadable`."""
    try:
        config = read_config(state_directory.config("ca")) if state_directory.exists() else {}
        found = url or config.get("database", {}).get("url")
    except (FileUnusable, AttributeError) as failure:
        raise LedgerUnreadable(str(failure)) from None
    if not found:
        raise LedgerUnreadable(
            "there are no settings of `keyreeve up` beside the context; name the ledger with --database URL"
        )
    if found.startswith("sqlite:///"):
        file = Path(config.get("state_directory", ".")) / found.removeprefix("sqlite:///")
        if not file.is_file():
            raise LedgerUnreadable(f"{file} does not exist")
        return SqliteLedger(file)
    if found.startswith("postgresql"):
        return PostgresqlLedger(found.replace("postgresql+psycopg", "postgresql", 1))
    raise LedgerUnreadable("the database URL is neither sqlite:///PATH nor postgresql://...")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Certificates in the ledger compared with those that were acknowledged."""

    acknowledged: int
    stored: int
    missing: int
    """Acknowledged but not in the ledger: lost certificates."""
    unacknowledged: int
    """In the ledger but not acknowledged: calls whose response was lost."""
    duplicates: int
    """Serial numbers that were issued more than once."""

    def holds(self, unknown: int) -> bool:
        """Whether nothing was lost or issued twice; up to `unknown` certificates may lack an acknowledgement."""
        return self.missing == 0 and self.duplicates == 0 and self.unacknowledged <= unknown


def compare(serials: bytes, stored: list[bytes]) -> Comparison:
    """Compare acknowledged serial numbers, concatenated at 16 octets each, with those in the ledger."""
    acknowledged = [serials[at : at + 16] for at in range(0, len(serials), 16)]
    distinct = set(acknowledged)
    held = set(stored)
    return Comparison(
        acknowledged=len(acknowledged),
        stored=len(stored),
        missing=len(distinct - held),
        unacknowledged=len(held - distinct),
        duplicates=len(acknowledged) - len(distinct) + len(stored) - len(held),
    )


def sampled_missing(get: Callable[[str], object], serials: list[str]) -> int:
    """Count the serial numbers of a sample that the service does not know."""
    missing = 0
    for serial in serials:
        try:
            get(serial)
        except KeyreeveError:
            missing += 1
    return missing
