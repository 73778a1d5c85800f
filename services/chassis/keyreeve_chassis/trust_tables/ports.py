"""Trust tables as use cases see them: what is found altered, and the rows that are not to be believed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from keyreeve import errors

ALL_ROWS = ""
"""Key of an alteration that cannot be assigned to a row."""


class Problem(StrEnum):
    """What is wrong with a row or a table."""

    CHANGED = "changed"
    """The row was changed: its MAC is not that of its values."""
    ADDED = "added"
    """The row was added."""
    DELETED = "deleted"
    """The row was deleted."""
    PUT_BACK = "put back"
    """An earlier state of the row was put back."""
    ROWS = "rows"
    """Rows were deleted, or earlier states put back; which ones is not known."""
    HEAD = "head"
    """The table's head was deleted, changed or put back."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """One difference between a table and its head."""

    table: str
    key: str
    """Primary key of the row; empty: the table."""
    problem: Problem

    @property
    def place(self) -> str:
        """The table, and the row where it is known."""
        return f"{self.table}/{self.key}" if self.key else self.table

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


class AlteredTables(Protocol):
    """What a process knows of altered trust tables."""

    @property
    def found(self) -> Sequence[Alteration]:
        """What is altered."""
        ...


class TrustRecords(Protocol):
    """The trust tables in one transaction."""

    def verify(self, tables: Collection[str] | None = None) -> Sequence[Alteration]:
        """Read some tables, or all, and compare them with their heads."""
        ...

    def rows_differ(self, tables: Collection[str] | None = None, *, most: int | None = None) -> Sequence[Alteration]:
        """Compare the MACs in tables with their heads: finds rows that were deleted or put back, cheaply.

        By default in those whose heads list no rows. A row's values are not compared with its MAC. Tables of more than
        `most` rows are left out.
        """
        ...

    def unsealed(self) -> Sequence[str] | None:
        """The tables that were never sealed, such as those of a new release; None when there is no index."""
        ...

    def seal(self, tables: Collection[str] | None = None) -> None:
        """Accept some tables as they are, or all: new MACs and heads."""
        ...


def table_altered(alterations: Sequence[Alteration]) -> errors.KeyreeveError:
    """The refusal while trust tables are altered; it names some of what was found."""
    named = ", ".join(str(one) for one in alterations[:3])
    more = f" and {len(alterations) - 3} more" if len(alterations) > 3 else ""
    return errors.TrustTableAltered(
        f"the database was altered by something other than the service: {named}{more}",
        metadata={"tables": ",".join(sorted({one.table for one in alterations}))},
    )
