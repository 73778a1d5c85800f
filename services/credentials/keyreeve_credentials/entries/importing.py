"""Imports: many entries or none, with an error for each line that is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keyreeve.errors import FieldInvalid, ImportRefused, KeyreeveError, PolicyDenied, Violation
from keyreeve_credentials.entries.names import ObjectName, parse_owner, parse_resource
from keyreeve_credentials.entries.ports import Entry, EntrySource, EntryTransaction
from keyreeve_credentials.entries.service import Entries, EntryValue, NewEntry

MOST_IMPORTED = 5_000
"""Entries of one import: its transaction holds up other writes for about a second."""
MOST_VIOLATIONS = 100


@dataclass(frozen=True, slots=True)
class ImportRow:
    """One line as it was given; the value is None when its kind is unknown."""

    line: int
    owner: str
    resource: str
    value: EntryValue | None


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A line that can be imported."""

    line: int
    new: NewEntry


@dataclass(frozen=True, slots=True)
class ImportIdentity:
    """What makes an import idempotent: its request id and a keyed hash of its messages (`MutationRequest`)."""

    request_id: str
    digest: bytes

    def SerializeToString(self, *, deterministic: bool = True) -> bytes:  # noqa: ARG002, N802 - protobuf's name
        """Return the hash."""
        return self.digest


def check_rows(rows: Sequence[ImportRow], may_manage: Callable[[ObjectName, ObjectName], None]) -> list[CheckedRow]:
    """Check every line, and that no two are the same entry. Raises `ImportRefused` with all that is wrong."""
    checked: list[CheckedRow] = []
    wrong: list[tuple[int, str]] = []
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        try:
            one = _check_row(row)
            may_manage(one.new.owner, one.new.resource)
        except (FieldInvalid, PolicyDenied) as problem:
            wrong.append((row.line, problem.message))
            continue
        first = seen.setdefault((one.new.owner.key, one.new.resource.key), row.line)
        if first != row.line:
            wrong.append((row.line, f"the same entry as line {first}"))
        checked.append(one)
    _refuse(wrong)
    return checked


def existing(tx: EntryTransaction, array_id: str, rows: Sequence[CheckedRow], *, replace: bool) -> dict[int, Entry]:
    """The entries that exist, by line. Raises `ImportRefused` when these are not to be replaced."""
    found = {row.line: tx.entries.find(array_id, row.new.owner, row.new.resource) for row in rows}
    known = {line: entry for line, entry in found.items() if entry is not None}
    if not replace:
        _refuse([(line, "there is an entry of this owner for this resource") for line in known])
    return known


def import_rows(
    entries: Entries, tx: EntryTransaction, array_id: str, rows: Sequence[CheckedRow], known: Mapping[int, Entry]
) -> list[Entry]:
    """Store every line: as the next version of the entry that is `known` by it, or as a new entry."""
    source = EntrySource.IMPORT
    replaced = [entries.put(tx, known[row.line], row.new.value, source=source) for row in rows if row.line in known]
    new = [row.new for row in rows if row.line not in known]
    return [*replaced, *entries.create_all(tx, array_id, new, source=source)]


def _check_row(row: ImportRow) -> CheckedRow:
    if row.line < 1:
        raise FieldInvalid("line: lines count from 1")
    if row.value is None:
        raise FieldInvalid("entry.kind: unknown")
    new = NewEntry(parse_owner(row.owner), parse_resource(row.resource), row.value)
    new.check()
    return CheckedRow(row.line, new)


def _refuse(wrong: Sequence[tuple[int, str]]) -> None:
    if not wrong:
        return
    violations = [Violation(f"lines[{line}]", why) for line, why in wrong[:MOST_VIOLATIONS]]
    line, why = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    refusal: KeyreeveError = ImportRefused(f"line {line}: {why}{more}", violations=violations)
    raise refusal
