"""The scrubber: compares the table of entries with what the audit log says was written.

Associated data cannot tell that a whole old row was put back, and nothing in a row tells that another was deleted. Each
write's audit record has the row's name, encryption and hash, and the log is witnessed outside the database.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keyreeve.audit.record import Record
from keyreeve_chassis.audit.log import SqlAuditLog
from keyreeve_chassis.database.ports import Store
from keyreeve_credentials.entries.ports import Entry, EntryTransaction
from keyreeve_credentials.entries.service import MISPLACED

ROWS_AT_ONCE = 100_000
"""Entries whose records are held in memory at once: about 20 MB; for more the log is read several times."""
_PAGE = 500
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


def difference(entry: Entry, written: Written | None) -> str:
    """How a row differs from the log; empty when it does not. A row that is newer than the log was read is no difference."""
    if entry.misplaced:
        return MISPLACED
    if written is None:
        return "no audit record tells of it"
    if not written.encryption:
        return "it was deleted, and has been put back"
    if entry.encryption < written.encryption:
        return "an older state of it has been put back"
    if entry.encryption == written.encryption and entry.row_sha256().hex() != written.row_sha256:
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
            written = await self._written(prefix)
            rows += len(seen)
            for name, entry in seen.items():
                why = difference(entry, written.get(name))
                if why and not (name not in written and entry.updated_at < fresh):
                    alarms.append((name, why))
            missing = [name for name, last in written.items() if last.encryption and name not in seen]
            alarms += [(name, "it is gone") for name in await self._still_missing(missing)]
        for name, why in alarms:
            self.alarm(name, why)
        return Scrubbed(rows, tuple(alarms))

    async def _rows(self, prefix: str) -> tuple[dict[str, Entry], int]:
        found: dict[str, Entry] = {}
        after = prefix
        while True:
            page = await self.store.read(partial(_scan, after), one_statement=True)
            for entry in page:
                if entry.entry_uid.startswith(prefix):
                    found[entry.name] = entry
            if len(page) < _PAGE or not page[-1].entry_uid.startswith(prefix):
                return found, self.now() - self.kept_seconds
            after = page[-1].entry_uid

    async def _written(self, prefix: str) -> Mapping[str, Written]:
        """The last record of each row, by its name, up to the last checkpoint of the log."""
        found: dict[str, Written] = {}
        start: tuple[int, int] | None = None
        while True:
            page = await self.log.page(
                lambda record, _t: _tells_of_rows(record), start, limit=_PAGE, newest_first=False
            )
            for one in page.records:
                for field, text in one.record.results:
                    if field == "row":
                        name, _, rest = text.partition(" ")
                        if name.partition(_COLLECTION)[2].startswith(prefix) and _COLLECTION in name:
                            found[name] = _parsed(rest)
            if page.at_end:
                return found
            start = page.next

    async def _still_missing(self, names: list[str]) -> list[str]:
        """Those of which there is no row even now, after the log was read, and that were not deleted since."""
        if not names:
            return []

        def look(tx: Any) -> list[str]:  # noqa: ANN401 - the service's transaction
            left = []
            for name in names:
                array, _, uid = name.removeprefix("arrays/").partition(_COLLECTION)
                if tx.entries.get(array, uid) is None:
                    left.append(name)
            return left

        gone = await self.store.read(look)
        if not gone:
            return []
        again = await self._written("")
        return [name for name in gone if again[name].encryption]


def _scan(after: str, tx: EntryTransaction) -> Sequence[Entry]:
    return tx.entries.scan(after, _PAGE)


def _tells_of_rows(record: Record) -> bool:
    return any(field == "row" for field, _ in record.results)


def _parsed(rest: str) -> Written:
    if rest == _DELETED:
        return Written(0)
    encryption, _, row_sha256 = rest.partition(" ")
    return Written(int(encryption), row_sha256)
