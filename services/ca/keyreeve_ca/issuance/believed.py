"""What a snapshot believes of trust tables that something other than the service has changed. No I/O.

A row that differs stays as it was in the snapshot before, or is left out; of a table whose head cannot be used, the whole
snapshot before stays. A process that has never seen the tables whole cannot say who may call, so it says that nobody may.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from keyreeve_ca.operators.ports import Operator
from keyreeve_ca.profiles.profile import ProfileVersion
from keyreeve_chassis.trust_tables.ports import ALL_ROWS, Alteration

INDEX = "*"
_ABOUT_CALLERS = frozenset({INDEX, "authorities", "operators", "revocations"})

T = TypeVar("T")


def vouches(alterations: Sequence[Alteration], *, before: bool) -> bool:
    """Whether a process can say who may call; `before` tells whether its snapshot before could."""
    return before or not any(one.key == ALL_ROWS and one.table in _ABOUT_CALLERS for one in alterations)


@dataclass(frozen=True, slots=True)
class Believed:
    """Chooses between rows as they are and as they were."""

    refused: frozenset[tuple[str, str]]
    """Table and key of what must not be believed."""

    def rows(self, table: str, now: Mapping[str, T], before: Mapping[str, T]) -> dict[str, T]:
        """The rows of a table by their keys."""
        if before and not self.refused.isdisjoint({(table, ALL_ROWS), (INDEX, ALL_ROWS)}):
            return dict(before)
        chosen = {key: row for key, row in now.items() if (table, key) not in self.refused}
        return chosen | {key: row for key, row in before.items() if (table, key) in self.refused}

    def profiles(
        self, now: Iterable[ProfileVersion], before: Mapping[str, ProfileVersion]
    ) -> dict[str, ProfileVersion]:
        """The current versions by the names of their profiles."""
        chosen = self.rows("profiles", {version.name: version for version in now}, before)
        for name, version in list(chosen.items()):
            if ("profile_versions", f"{name}/{version.version}") in self.refused:
                del chosen[name]
                if name in before:
                    chosen[name] = before[name]
        return chosen

    def operators(self, now: Iterable[Operator], before: Iterable[Operator]) -> list[Operator]:
        """The operators that have not been removed."""
        then = {person.person_uid: person for person in before}
        chosen = self.rows("operators", {person.person_uid: person for person in now}, then)
        return [
            replace(
                person,
                keys=tuple(one for one in person.keys if ("operator_keys", one.key.fingerprint) not in self.refused),
            )
            for person in chosen.values()
        ]
