"""The scrubber: compares the tables of entries and key files with what the audit log says was written.

Associated data cannot tell that a whole old row was put back, and nothing in a row tells that another was deleted. Each
write's audit record has the row's name, encryption and hash, and the log is witnessed outside the database.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.entries.ports import ROW, Entry, EntryTransaction
from keyreeve_credentials.entries.service import MISPLACED
from keyreeve_credentials.key_files.ports import FILE_ROW, KeyFileTransaction, Space, StoredFile

ROWS_AT_ONCE = 100_000
"""Entries whose records are held in memory at once: about 20 MB; for more the log is read several times."""
_PAGE = 500
_FILES_PAGE = 20
"""Key files have up to 1 MiB."""
_DELETED = "deleted"
_COLLECTION = "/entries/"


@dataclass(frozen=True, slots=True)
class Written:
    """What the log says of a row last."""

    encryption: int
    """0: it was deleted."""
    row_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """The outcome of one comparison."""

    rows: int
    alarms: tuple[tuple[str, str], ...]
    """Name of each row that differs, and how."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of either table, without its values."""

    encryption: int
    row_sha256: str
    updated_at: int
    misplaced: bool = False


def difference(row: Row, written: Written | None) -> str:
    """How a row differs from the log; empty when it does not. A row that is newer than the log was read is no difference."""
    if row.misplaced:
        return MISPLACED
    if written is None:
        return "no audit record tells of it"
    if not written.encryption:
        return "it was deleted, and has been put back"
    if row.encryption < written.encryption:
        return "an older state of it has been put back"
    if row.encryption == written.encryption and row.row_sha256 != written.row_sha256:
        return "it is not what was written"
    return ""


@dataclass(frozen=True)
class Scrubber:
    """Compares all rows; changes nothing."""

    store: Store[Any]
    log: SqlAuditLog
    now: Callable[[], int]
    kept_seconds: int
    """How long audit records are kept: nothing is said of rows that were written earlier."""
    alarm: Callable[[str, str], None]

    async def run(self) -> Scrubbed:
        """Compare, and raise an alarm for each row that differs."""
        total = await self.store.read(lambda tx: tx.entries.count(), one_statement=True)
        parts = 1
        while total / parts > ROWS_AT_ONCE:
            parts *= 16
        width = len(f"{parts:x}") - 1
        alarms: list[tuple[str, str]] = []
        rows = 0
        for part in range(parts):
            prefix = f"{part:0{width}x}" if width else ""
            # Rows first: what is written meanwhile is newer than the log that is read afterwards at the most.
            seen, fresh = await self._rows(prefix)
            written = await self._written(ROW, prefix)
            rows += len(seen)
            for name, row in seen.items():
                why = difference(row, written.get(name))
                if why and not (name not in written and not row.misplaced and row.updated_at < fresh):
                    alarms.append((name, why))
            alarms += await self._missing(ROW, seen, written)
        files = await self._files()
        written = await self._written(FILE_ROW)
        for name, row in files.items():
            # Releases before the first of these records wrote files without one.
            if name in written and (why := difference(row, written[name])):
                alarms.append((name, why))
        alarms += await self._missing(FILE_ROW, files, written)
        for name, why in alarms:
            self.alarm(name, why)
        return Scrubbed(rows + len(files), tuple(alarms))

    async def _rows(self, prefix: str) -> tuple[dict[str, Row], int]:
        found: dict[str, Row] = {}
        after = prefix
        while True:
            page = await self.store.read(partial(_scan, after), one_statement=True)
            for entry in page:
                if entry.entry_uid.startswith(prefix):
                    found[entry.name] = Row(
                        entry.encryption, entry.row_sha256().hex(), entry.updated_at, entry.misplaced
                    )
            if len(page) < _PAGE or not page[-1].entry_uid.startswith(prefix):
                return found, self.now() - self.kept_seconds
            after = page[-1].entry_uid

    async def _files(self) -> dict[str, Row]:
        found: dict[str, Row] = {}
        after = ""
        while True:
            page = await self.store.read(partial(_scan_files, after), one_statement=True)
            for file in page:
                found[file.resource_name] = Row(file.encryption, file.row_sha256().hex(), file.updated_at)
            if len(page) < _FILES_PAGE:
                return found
            after = page[-1].file_uid

    async def _missing(
        self, recorded_as: str, seen: Mapping[str, Row], written: Mapping[str, Written]
    ) -> list[tuple[str, str]]:
        missing = [name for name, last in written.items() if last.encryption and name not in seen]
        return [(name, "it is gone") for name in await self._still_missing(recorded_as, missing)]

    async def _written(self, recorded_as: str, prefix: str = "") -> Mapping[str, Written]:
        """The last record of each row, by its name, up to the last checkpoint of the log."""
        found: dict[str, Written] = {}
        start: tuple[int, int] | None = None
        while True:
            page = await self.log.page(
                lambda record, _t: any(field == recorded_as for field, _ in record.results),
                start,
                limit=_PAGE,
                newest_first=False,
            )
            for one in page.records:
                for field, text in one.record.results:
                    if field == recorded_as:
                        name, _, rest = text.partition(" ")
                        if not prefix or name.partition(_COLLECTION)[2].startswith(prefix):
                            found[name] = _parsed(rest)
            if page.at_end:
                return found
            start = page.next

    async def _still_missing(self, recorded_as: str, names: list[str]) -> list[str]:
        """Those of which there is no row even now, after the log was read, and that were not deleted since."""
        if not names:
            return []

        def look(tx: Any) -> list[str]:  # noqa: ANN401 - the service's transaction
            return [name for name in names if not _exists(tx, name)]

        gone = await self.store.read(look)
        if not gone:
            return []
        again = await self._written(recorded_as)
        return [name for name in gone if again[name].encryption]


def _scan(after: str, tx: EntryTransaction) -> Sequence[Entry]:
    return tx.entries.scan(after, _PAGE)


def _scan_files(after: str, tx: KeyFileTransaction) -> Sequence[StoredFile]:
    return tx.key_files.scan(after, _FILES_PAGE)


def _exists(tx: Any, name: str) -> bool:  # noqa: ANN401 - the service's transaction
    _, array_id, *between, _, last = name.split("/")
    if not between:
        return tx.entries.get(array_id, last) is not None
    return tx.key_files.get(Space(array_id, between[1]), last) is not None


def _parsed(rest: str) -> Written:
    if rest == _DELETED:
        return Written(0)
    encryption, _, row_sha256 = rest.partition(" ")
    return Written(int(encryption), row_sha256)
